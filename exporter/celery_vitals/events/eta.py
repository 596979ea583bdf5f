"""When a task is due, from the text of its ETA."""

from __future__ import annotations

from datetime import datetime, timezone

_HOUR = 3600.0


def due_time(eta: str | None, utcoffset: float | None, correction: float) -> float:
    """Unix seconds by the exporter's clock; 0 for a text that is no time.

    Without a time zone of its own (`enable_utc` off) it is the sender's local time, `utcoffset` hours west of UTC.
    """
    try:
        due = datetime.fromisoformat((eta or "").replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    if due.tzinfo is None:
        return (
            due.replace(tzinfo=timezone.utc).timestamp() + (utcoffset or 0.0) * _HOUR + correction
        )
    return due.timestamp() + correction
