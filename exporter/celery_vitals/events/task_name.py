"""What is known of a task by its name alone, in any queue."""

from __future__ import annotations

from celery_vitals.events.task_tables import TaskTables
from celery_vitals.metrics.cardinality import OTHER
from celery_vitals.metrics.series import ValueSeries

_NO_SENT_EVENTS_AFTER = 100
"""Tasks of one name that end without a task-sent event, after which none is expected any more."""


class TaskName:
    """State by task name alone: when a task was last sent, succeeded and failed, in any queue."""

    __slots__ = (
        "_last",
        "_tables",
        "ended_without_sent",
        "ends_without_event",
        "label",
        "late",
        "receiver",
        "required_visibility_timeout",
        "sent_event_seen",
    )

    def __init__(self, label: str, tables: TaskTables) -> None:
        self.label = label
        self.receiver = ""
        """The worker that last received one; empty before."""
        self.ends_without_event = False
        """Whether one has ended without an event, as a task that raises Ignore does."""
        self.ended_without_sent = 0
        """Number of tasks that ended without a task-sent event."""
        self.late: bool | None = None
        """Whether it is acknowledged after its end; None while unknown."""
        self.required_visibility_timeout = 0.0
        """Longest seconds from a delivery to the end, once a visibility timeout was shorter."""
        self.sent_event_seen = False
        """Whether producers send task-sent events for this name, so that waiting for one pays."""
        self._tables = {
            "sent": tables.last_sent,
            "succeeded": tables.last_succeeded,
            "failed": tables.last_failed,
        }
        self._last: dict[str, ValueSeries] = {}

    @property
    def may_be_sent(self) -> bool:
        """Whether a task-sent event of it may still arrive after its others."""
        return self.sent_event_seen or self.ended_without_sent <= _NO_SENT_EVENTS_AFTER

    def require_visibility_timeout(self, seconds: float) -> None:
        """Record the time from a delivery to its end, where the visibility timeout is too short."""
        self.required_visibility_timeout = max(self.required_visibility_timeout, seconds)

    def set_last(self, what: str, at: float) -> None:
        """Record the time of an event, unless a later one is recorded."""
        series = self._last.get(what)
        if series is None:
            series = self._last[what] = self._tables[what].series(self.label)
        if at > series.value:
            series.value = at

    def expire(self) -> None:
        """Remove its series."""
        for what, series in self._last.items():
            if OTHER not in series.labels:
                self._tables[what].remove(series)
        self._last.clear()
