"""Heartbeat of Celery workers and beat, from inside their processes.

    import celery_vitals_pulse
    celery_vitals_pulse.install(app)

This module imports neither Celery nor anything that is slow: the command `check` runs in every
liveness probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

__all__ = ("install",)
__version__ = "0.1.0"


def install(app: Celery) -> None:
    """Send a heartbeat from every worker and beat of an app.  A second call changes nothing.

    Connects signals only: a thread starts in a worker or in beat, and in no other process that
    imports the app.
    """
    from celery_vitals_pulse import hooks

    hooks.install(app)
