"""What the verdict expects of the cluster: minimums, limits, and the weight of each finding."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from typing import TYPE_CHECKING

from celery_vitals.errors import ConfigError
from celery_vitals.health.codes import Code, Severity
from celery_vitals.settings.celery_app import periodic_intervals

if TYPE_CHECKING:
    from celery import Celery

    from celery_vitals.settings import Settings
    from celery_vitals.status import QueueStatus

OVERDUE_FACTOR = 1.5
"""The part of its interval after which a periodic task is overdue; as in CeleryTaskOverdue."""
LOST_WITHIN = 6 * 3600.0
"""Seconds for which lost executions are reported; as in CeleryTasksLost."""
REPEATED_WITHIN = 3600.0
"""Seconds for which repeated executions are reported; as in CeleryTaskRunsTwice."""

_EVERY = "*"
_QUEUE_LIMIT = 1000
_QUEUE_AGE = 3600.0
"""Seconds; as in CeleryQueueOldestMessage."""
_TASK_AGE = 7200.0
"""Seconds; as in CeleryTaskStuck."""
_STALE_AFTER = 120.0
"""Seconds after which results are too old for a verdict."""


@dataclass(frozen=True)
class HealthLimits:
    """The limits of one cluster, of the settings and the app."""

    app: str = ""
    """The name of the app for the option -A of celery; empty while unknown."""
    min_workers: int = 1
    queue_min_workers: Mapping[str, int] = field(default_factory=dict)
    queue_limits: Mapping[str, int] = field(default_factory=dict)
    queue_ages: Mapping[str, float] = field(default_factory=dict)
    task_ages: Mapping[str, float] = field(default_factory=dict)
    task_intervals: Mapping[str, float] = field(default_factory=dict)
    severities: Mapping[Code, Severity] = field(default_factory=dict)
    ignored_queues: re.Pattern[str] | None = None
    stale_after: float = _STALE_AFTER
    """Age of results, in seconds, from which on they prove no health."""

    @classmethod
    def of(cls, settings: Settings, app: Celery | None = None) -> HealthLimits:
        """Combine the settings with the app's schedule.  Raises ConfigError."""
        intervals = periodic_intervals(app) if app is not None else {}
        patterns = settings.health_ignored_queues
        return cls(
            app=settings.app or (app.main if app is not None else "") or "",
            min_workers=settings.health_min_workers,
            queue_min_workers=settings.health_queue_min_workers,
            queue_limits=settings.queue_limits,
            queue_ages=settings.health_queue_ages,
            task_ages=settings.health_task_ages,
            task_intervals={**intervals, **settings.health_task_intervals},
            severities=_severities(settings.health_severities),
            ignored_queues=re.compile("|".join(map(translate, patterns))) if patterns else None,
            stale_after=max(_STALE_AFTER, 2 * (settings.min_interval or 0.0)),
        )

    def severity(self, code: Code) -> Severity:
        """Return the weight of a finding."""
        return self.severities.get(code, code.severity)

    def matters(self, queue: str) -> bool:
        """Return whether the state of a queue counts."""
        return self.ignored_queues is None or not self.ignored_queues.match(queue)

    def queue_limit(self, queue: QueueStatus) -> int | None:
        """Return the length limit of a queue; None for one of which only the default would apply
        and that may not be Celery's."""
        default = self.queue_limits.get(_EVERY, _QUEUE_LIMIT if queue.is_celery else None)
        return self.queue_limits.get(queue.name, default)

    def queue_age(self, queue: str) -> float:
        """Return the limit of the age of a queue's oldest message, in seconds."""
        return self.queue_ages.get(queue, self.queue_ages.get(_EVERY, _QUEUE_AGE))

    def task_age(self, task: str) -> float:
        """Return the limit of the age of a task's oldest running execution, in seconds."""
        return self.task_ages.get(task, self.task_ages.get(_EVERY, _TASK_AGE))


def _severities(given: Mapping[str, str]) -> dict[Code, Severity]:
    known = {code.value: code for code in Code}
    for name in given:
        if name not in known:
            raise ConfigError(
                f"--health.severity: unknown code {name!r} (expected one of: {', '.join(known)})"
            )
    return {known[name]: Severity(severity) for name, severity in given.items()}
