"""A copy of the whole state of the events at one moment, and what it is saved as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from celery_vitals.events.decode import Event
from celery_vitals.events.saved import Chunk, References
from celery_vitals.events.task_tracker import SavedTasks, TasksCopy
from celery_vitals.events.worker_events import SavedWorkers
from celery_vitals.events.worker_tracker import WorkerTracker
from celery_vitals.metrics.base import label_text
from celery_vitals.metrics.cardinality import FairLock
from celery_vitals.metrics.tables import TableCopy, TableState


class Head(msgspec.Struct):
    """The state without its executions."""

    at: float
    """The Unix time of the copy."""
    births_at: float
    """Its time by the clock of `Births`."""
    released: float
    """`Births.released`."""
    tables: list[TableState]
    aggregated: dict[str, int]
    workers: SavedWorkers
    tasks: SavedTasks
    counted_since: float = -1.0
    """`EventProcessor.counted_since`."""
    recent: list[tuple[int, int]] = []
    """The fingerprints of the last messages."""


_MAX_INTEGER = 2**63 - 1
_encoder = msgspec.msgpack.Encoder()
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_chunk = msgspec.msgpack.Decoder(Chunk).decode


def _encode(content: Head | Chunk) -> bytes:
    try:
        return _encoder.encode(content)
    except (OverflowError, UnicodeEncodeError):  # no worker of Celery sends such values
        return _encoder.encode(_encodable(msgspec.to_builtins(content)))


def _encodable(value: Any) -> Any:
    """Return a value with its integers within 64 bits, and its text in UTF-8."""
    if isinstance(value, dict):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_MAX_INTEGER, min(value, _MAX_INTEGER))
    return label_text(value) if isinstance(value, str) else value


@dataclass
class ProcessorCopy:
    """The state at one moment.  Created under the event lock, which `frames` must not hold."""

    head: Head
    tables: list[TableCopy[Any]]
    tasks: TasksCopy
    references: References
    workers: dict[str, WorkerTracker]
    lock: FairLock

    def preserve(self, events: Iterable[Event]) -> None:
        """Copy what these events are about to change, unless it is copied."""
        with self.lock:
            for event in events:
                self.tasks.executions.preserve((event.uuid,) if event.uuid else ())
                worker = self.workers.get(event.hostname)
                if worker is not None and (not event.uuid or event.pid != worker.pid):
                    self.tasks.executions.preserve(one.uuid for one in worker.running)

    def frames(self, recent: list[tuple[int, int]]) -> Iterator[bytes]:
        """Yield the contents of the frames of a snapshot; `recent` are fingerprints."""
        self.head.recent = recent
        self.head.tables = [table.to_state(self.head.released) for table in self.tables]
        self.head.tasks = self.tasks.complete(self.references)
        yield _encode(self.head)
        for chunk in self.tasks.executions.chunks():
            yield _encode(chunk)


def decode(frames: Sequence[bytes]) -> tuple[Head, Iterator[Chunk]]:
    """Return the contents of a snapshot, its chunks one after the other: a million executions are
    large.  Raises msgspec.MsgspecError and IndexError for any of them at once."""
    head, chunks = _decode_head(frames[0]), frames[1:]
    for chunk in chunks:
        _decode_chunk(chunk)
    return head, map(_decode_chunk, chunks)
