"""What the name of a queue shows: that it is Celery's own, or that it belongs to one process.

A queue of one process has a name with a part that changes with each process.  The queue of a
Broadcast counts as its exchange, the direct queues of all workers (`worker_direct`) as theirs.
"""

from __future__ import annotations

import re
from collections.abc import Collection

DIRECT = "C.dq2"
"""The exchange of the direct queues."""

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_DELAYED = re.compile(r"(.+_)?celery_delayed_\d+", re.DOTALL)
_CONTROL_REPLY = re.compile(rf"{_UUID}\.reply\..*pidbox", re.DOTALL)
_INTERNAL = re.compile(
    rf"celeryev([.-].*)?|.*\.pidbox|.*-celery-pidbox|{_DELAYED.pattern}|celery-vitals\..*"
    rf"|amq\.gen-.*|{_UUID}(\.reply.*)?|bcast[.-]{_UUID}",
    re.DOTALL,
)
"""Celery's own queues: events, remote control, delayed delivery, replies of the RPC backend; and
the one of each worker for broadcast tasks, which on Redis outlives workers that were killed.  A
broker whose names cannot contain dots has hyphens instead."""
_DIRECT = re.compile(r".+@.+\.dq2", re.DOTALL)
_ENDS_IN_UUID = re.compile(rf"(.+)\.{_UUID}", re.DOTALL)


def is_internal(name: str) -> bool:
    """Return whether a queue is Celery's own, and not an application's."""
    return _INTERNAL.fullmatch(name) is not None


def is_delayed(name: str) -> bool:
    """Return whether messages wait in it for their ETA: RabbitMQ's delayed delivery."""
    return _DELAYED.fullmatch(name) is not None


def is_control_reply(name: str) -> bool:
    """Return whether workers send replies to remote control to it."""
    return _CONTROL_REPLY.fullmatch(name) is not None


def is_direct(name: str) -> bool:
    """Return whether it is the direct queue of a worker."""
    return _DIRECT.fullmatch(name) is not None


def ends_in_uuid(name: str) -> bool:
    """Return whether the name may contain the id of a process; it may be a tenant's as well."""
    return _ENDS_IN_UUID.fullmatch(name) is not None


def broadcast_name(queue: str, exchange: str, broadcasts: Collection[str] = ()) -> str | None:
    """Return the name under which the queue of a Broadcast counts; None for any other queue.

    `broadcasts` are the exchanges that are known to be those of a Broadcast.
    """
    parts = _ENDS_IN_UUID.fullmatch(queue)
    if parts is None or not (parts[1] == "bcast" or exchange in broadcasts):
        return None
    return exchange or parts[1]
