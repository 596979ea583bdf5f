"""From the bytes of an event message to events: only the fields that are used, without an object for any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import msgspec

_Short = Annotated[str, msgspec.Meta(max_length=255)]
"""What is kept of each task or worker: nobody's id or name is longer."""


class Event(msgspec.Struct, gc=False):
    """One event of a worker or a producer, as Celery 5.2 to 5.7 send it; times are of the sender's clock."""

    type: str
    hostname: _Short
    uuid: _Short = ""
    timestamp: float = 0.0
    name: str | None = None
    queue: str | None = None
    runtime: float | None = None
    exception: str | None = None
    traceback: str | None = None
    eta: str | None = None
    retries: int | None = 0
    kwargs: str | None = None
    terminated: bool | None = None
    expired: bool | None = None
    requeue: bool | None = None
    pid: int | None = None
    utcoffset: float | None = 0.0
    """Hours west of UTC, of the sender's local time."""
    active: int | None = None
    processed: int | None = None
    sw_ver: _Short | None = None


_one = msgspec.json.Decoder(Event).decode
_many = msgspec.json.Decoder(list[Event]).decode


BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises."""


def decode(body: bytes) -> list[Event]:
    """The events of one message, which is one event or a list of them.  Raises one of BROKEN when any part is."""
    return _many(body) if body[:1] == b"[" else [_one(body)]


def decode_each(body: bytes) -> Iterator[Event | str]:
    """The same for a message of which a part is broken: each event, or the reason why it is none.

    Read with Python's own JSON, as kombu does: it takes lone surrogates and NaN, which the fast one does not.
    """
    try:
        read = json.loads(body)
    except (ValueError, RecursionError):
        yield "not_json"
        return
    for part in read if isinstance(read, list) else [read]:
        try:
            yield msgspec.convert(part, Event)
        except (msgspec.ValidationError, ValueError, OverflowError):
            yield "malformed"
