"""The rules of the event stream."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.health.codes import Code
from celery_vitals.health.findings import Finding
from celery_vitals.health.rules.base import Situation


def stream_down(situation: Situation) -> Iterator[Finding]:
    """Yield that no task events are received although the broker is up and accepts messages.

    Not before the first connection has succeeded or failed.
    """
    tasks = situation.status.tasks
    if tasks is None or tasks.stream_up or situation.broker_down:
        return
    never = tasks.watched_since is None and not tasks.stream_reason
    if never or situation.status.broker_state.writable is False:
        return
    reason = tasks.stream_reason or "no event is received, not even the exporter's own canary"
    yield situation.finding(
        Code.EVENT_STREAM_DOWN,
        "",
        f"The exporter receives no task events: {reason}.",
        "Check the log of the exporter for 'event stream failed', and that its user may read the"
        " event exchange.",
        {"reason": reason},
    )
