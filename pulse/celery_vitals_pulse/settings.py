"""The plugin's settings, which are part of Celery's configuration."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

from celery_vitals_pulse.defaults import DEFAULT_FILE, DEFAULT_INTERVAL

log = logging.getLogger("celery_vitals_pulse")

_MIN_INTERVAL = 0.1
_MAX_INTERVAL = 86_400.0


@dataclass(frozen=True)
class Settings:
    """The settings of one process."""

    interval: float = DEFAULT_INTERVAL
    """Seconds between two heartbeats."""
    file: str = DEFAULT_FILE
    """Path of the heartbeat file; `{hostname}` and `{pid}` are replaced."""

    def path(self, hostname: str, pid: int) -> str:
        """Return the path of the file of one process."""
        name = "".join(char if char.isalnum() or char in "@._-" else "_" for char in hostname)
        return self.file.replace("{hostname}", name).replace("{pid}", str(pid))

    @property
    def per_process(self) -> bool:
        """Whether every process has a file of its own."""
        return "{pid}" in self.file


def read(conf: Any) -> Settings:
    """Return the settings of an app; a value that is invalid is logged and not used."""
    return Settings(
        interval=_interval(conf.get("pulse_heartbeat_interval", DEFAULT_INTERVAL)),
        file=_file(conf.get("pulse_healthcheck_file", DEFAULT_FILE)),
    )


def _interval(value: Any) -> float:
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not _MIN_INTERVAL <= seconds <= _MAX_INTERVAL:
        log.warning(
            "pulse_heartbeat_interval: %r is not a number of seconds from %g to %g; using %g",
            value,
            _MIN_INTERVAL,
            _MAX_INTERVAL,
            DEFAULT_INTERVAL,
        )
        return DEFAULT_INTERVAL
    return seconds


def _file(value: Any) -> str:
    path = str(value) if isinstance(value, str) or hasattr(value, "__fspath__") else ""
    if not path or "\0" in path:
        log.warning("pulse_healthcheck_file: %r is not a path; using %s", value, DEFAULT_FILE)
        return DEFAULT_FILE
    return path
