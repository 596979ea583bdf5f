"""The workers, as far as they have been heard of.

One file for each question: `stats` (what does a reply say?), `processes` (whose is it?), `worker` (what is known of
one?), `doubt` and `limits` (does something look wrong, and for how long?), `state` (so what is it doing?), and `fleet`
for all of them.
"""

from __future__ import annotations

from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.state import State
from celery_vitals.workers.stats import Stats
from celery_vitals.workers.worker import Worker

__all__ = ["State", "Stats", "Worker", "WorkerRegistry"]
