"""Which areas are observed: an area that is not observed is not healthy."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.health.codes import Area, Status
from celery_vitals.health.commands import duration
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.rules.workers import consumers_counted
from celery_vitals.status import ClusterStatus

_REQUIRED = (Area.BROKER, Area.WORKERS, Area.QUEUES)
_WHAT = {
    Area.BROKER: "the broker",
    Area.BACKEND: "the result backend",
    Area.WORKERS: "the workers",
    Area.QUEUES: "the queues",
}
_NOT_RECEIVED = BlindSpot(
    "task_events", "The verdict lacks the tasks: no task events are received.", "--collector.tasks"
)


def unobserved(
    status: ClusterStatus, limits: HealthLimits, now: float
) -> dict[Area, tuple[Status, BlindSpot | None]]:
    """Return the areas that are not observed, with their status and the reason."""
    areas: dict[Area, tuple[Status, BlindSpot | None]] = {}
    for area in _WHAT:
        reason = _missing(area, status, limits, now)
        if reason is not None:
            areas[area] = reason
    for spot in (*_workers(status, limits), *_queues(status, limits)):
        areas.setdefault(Area(spot.subject), (Status.UNKNOWN, spot))
    areas.update(_events(status))
    return areas


def _missing(
    area: Area, status: ClusterStatus, limits: HealthLimits, now: float
) -> tuple[Status, BlindSpot | None] | None:
    """Return why a probed area has no results; None where it has."""
    run = status.collector(area.value)
    if run is None:
        if any(spot.subject == area.value for spot in status.blind_spots):
            spot = None
        else:
            text = f"The verdict lacks {_WHAT[area]}: the collector {area.value} is disabled."
            spot = BlindSpot(area.value, text, f"--collector.{area.value}")
        return (Status.UNKNOWN if area in _REQUIRED else Status.NOT_CONFIGURED), spot
    if run.ok is None:
        text = f"The verdict lacks {_WHAT[area]}: the first probe has not ended."
    elif not run.ok and area in (Area.BROKER, Area.BACKEND):
        return None  # a failure is what these probes observe
    elif not run.ok:
        text = f"The verdict lacks {_WHAT[area]}: {run.reason}."
    elif now - run.finished_at > limits.stale_after:
        age = duration(now - run.finished_at)
        text = f"The verdict lacks {_WHAT[area]}: the last probe ended {age} ago."
    else:
        return None
    return Status.UNKNOWN, BlindSpot(area.value, text)


def _workers(status: ClusterStatus, limits: HealthLimits) -> Iterator[BlindSpot]:
    if not status.workers_known:
        text = "The verdict lacks the workers: none has answered a command."
        yield BlindSpot(Area.WORKERS.value, text)
        return
    up = sum(worker.up for worker in status.workers)
    if up < limits.min_workers <= consumers_counted(status):
        text = (
            "The number of workers is unknown: the broker counts as many consumers as the minimum"
            f" of workers ({limits.min_workers}), and fewer have replied."
        )
        yield BlindSpot(Area.WORKERS.value, text)


def _queues(status: ClusterStatus, limits: HealthLimits) -> Iterator[BlindSpot]:
    """Yield that no length is known, or not that of a queue that matters."""
    of_celery = [one for one in status.queues if one.is_celery and limits.matters(one.name)]
    known = any(queue.length is not None for queue in status.queues)
    unread = any(queue.length is None for queue in of_celery)
    hidden = any(spot.subject == "queue_length" for spot in status.blind_spots)
    if not known or (unread and hidden):
        text = "The verdict lacks the queues: the length of one or all is unknown."
        yield BlindSpot(Area.QUEUES.value, text, "--queue")


def _events(status: ClusterStatus) -> dict[Area, tuple[Status, BlindSpot | None]]:
    tasks = status.tasks
    if tasks is None:
        known = any(spot.subject == "task_events" for spot in status.blind_spots)
        absent = (Status.NOT_CONFIGURED, None if known else _NOT_RECEIVED)
        return {Area.EVENTS: absent, Area.TASKS: (Status.NOT_CONFIGURED, None)}
    if tasks.stream_up:
        return {}
    return dict.fromkeys((Area.EVENTS, Area.TASKS), (Status.UNKNOWN, None))
