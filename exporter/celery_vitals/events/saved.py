"""What the state of the events is saved as: plain data, and references to executions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec

from celery_vitals.events.execution import Execution

_REFERENCES = ("name", "series", "worker", "following")
FIELDS = tuple(
    field.name for field in msgspec.structs.fields(Execution) if field.name not in _REFERENCES
)
"""The attributes of an execution that are saved as they are."""
_values = attrgetter(*FIELDS)

Reference = tuple[str, int]
"""An execution: its uuid and its place among those of the uuid; or "" and its number among those
that are not tracked any more."""
Find = Callable[[Reference], "Execution | None"]
"""Returns the execution of a reference."""


class References:
    """References to executions; `of` yields the tracked ones of a uuid."""

    def __init__(self, of: Callable[[str], Iterator[Execution]]) -> None:
        self.untracked: list[Execution] = []
        self._of = of

    def to(self, execution: Execution) -> Reference:
        """Return the reference to an execution."""
        for place, one in enumerate(self._of(execution.uuid)):
            if one is execution:
                return execution.uuid, place
        self.untracked.append(execution)
        return "", len(self.untracked) - 1


class SavedExecution(msgspec.Struct, array_like=True, gc=False):
    """An execution as it is saved, its references as numbers in lists."""

    name: int
    series: int
    worker: int
    """-1 for none."""
    running: bool
    """Whether it is among those that run on its worker."""
    values: list[Any]
    """Of the fields of its chunk."""


class Chunk(msgspec.Struct):
    """Some executions, and what they refer to."""

    fields: tuple[str, ...] = FIELDS
    names: list[str] = []
    series: list[tuple[tuple[str, ...], str]] = []
    """Labels and worker of each series."""
    workers: list[str] = []
    executions: list[SavedExecution] = []


class Copied(msgspec.Struct, gc=False):
    """An execution at one moment."""

    name: str
    series: tuple[tuple[str, ...], str]
    worker: str
    running: bool
    values: tuple[Any, ...]

    @classmethod
    def of(cls, execution: Execution) -> Copied:
        """Copy an execution; the caller holds the event lock."""
        worker, series = execution.worker, execution.series
        return cls(
            execution.name.label,
            (series.labels, series.worker),
            worker.name if worker is not None else "",
            worker is not None and execution in worker.running,
            _values(execution),
        )


def chunk_of(executions: Iterable[Copied]) -> Chunk:
    """Return executions as they are saved."""
    names: dict[str, int] = {}
    series: dict[tuple[tuple[str, ...], str], int] = {}
    workers: dict[str, int] = {"": -1}
    saved = [
        SavedExecution(
            names.setdefault(one.name, len(names)),
            series.setdefault(one.series, len(series)),
            workers.setdefault(one.worker, len(workers) - 1),
            one.running,
            list(one.values),
        )
        for one in executions
    ]
    return Chunk(FIELDS, list(names), list(series), list(workers)[1:], saved)


def copied_chunk(executions: Iterable[Execution]) -> Chunk:
    """Return executions that do not change as they are saved."""
    return chunk_of(map(Copied.of, executions))


@dataclass
class Restorer:
    """Makes executions again from chunks.

    `name`, `series` and `worker` return what they refer to: a `TaskName`, a `TaskSeries` by its
    labels and worker, and a `WorkerTracker`.
    """

    name: Callable[[str], Any]
    series: Callable[[tuple[str, ...], str], Any]
    worker: Callable[[str], Any]
    at: float
    """When they were saved."""

    def executions(self, chunk: Chunk) -> Iterator[Execution]:
        """Yield the executions of a chunk; those that run are added to their workers."""
        names = [self.name(name) for name in chunk.names]
        series = [self.series(*saved) for saved in chunk.series]
        workers = [self.worker(name) for name in chunk.workers]
        for saved in chunk.executions:
            values = dict(zip(chunk.fields, saved.values, strict=True))
            execution = Execution(
                name=names[saved.name],
                series=series[saved.series],
                worker=workers[saved.worker] if saved.worker >= 0 else None,
                **{name: values[name] for name in FIELDS if name in values},
            )
            if saved.running:
                execution.worker.running[execution] = None
            yield execution


def saved_attributes(one: object, names: Iterable[str]) -> dict[str, Any]:
    """Return attributes as they are saved."""
    values = ((name, getattr(one, name)) for name in names)
    return {name: value[:] if isinstance(value, list) else value for name, value in values}


def restore_attributes(one: object, names: Iterable[str], saved: Mapping[str, Any]) -> None:
    """Set the attributes that are saved."""
    for name in names:
        if name in saved:
            value = saved[name]
            is_tuple = isinstance(getattr(one, name), tuple)
            setattr(one, name, tuple(value) if is_tuple else value)
