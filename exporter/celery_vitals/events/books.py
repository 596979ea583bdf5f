"""Counts the executions that leave without an event of their own, and those that run twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from celery_vitals.events.account import ENDED, LOST
from celery_vitals.events.cases import Case, CaseKind, Cases, SavedCases
from celery_vitals.events.execution import Execution
from celery_vitals.events.saved import Find, Reference, References
from celery_vitals.events.task_series import TaskSeriesIndex
from celery_vitals.events.task_status import PoisonStatus
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample

POISON_STARTS = 3
"""Starts without an end from which on a message is poison."""
_MAX_POISON = 1000
WORKER_GONE, WORKER_RESTARTED = "worker_gone", "worker_restarted"
CHILD_KILLED, CONNECTION_LOST = "child_killed", "connection_lost"
"""Reasons why an execution will not end."""
SILENT, MISSED, NO_MESSAGE = "silent", "missed", "no_message"
"""Reasons why it is over without an event, as far as known."""

_EVIDENCE = {
    WORKER_GONE: "The worker has shown no sign of life since {since}.",
    WORKER_RESTARTED: "Another process has the name of the worker since {since}.",
    CHILD_KILLED: "The worker reports that the process that ran it has ended (WorkerLostError).",
    CONNECTION_LOST: "The worker stopped it when it lost the broker, at {since}.",
}


class SavedBooks(msgspec.Struct):
    """The cases and the poison as they are saved; the tables have the counters."""

    cases: SavedCases
    poison: list[Reference] = []


class Books:
    """The counters of the ledger, and its cases.  For one thread."""

    def __init__(self, index: TaskSeriesIndex) -> None:
        self.cases = Cases()
        self.counted = 0
        """How often something was counted here."""
        self._index = index
        self._poison: dict[str, Execution] = {}

    def lost(self, execution: Execution, reason: str, now: float, evidence: str) -> None:
        """Count an execution that will not end."""
        execution.move(LOST)
        self._poison.pop(execution.uuid, None)
        self._count(execution, "lost", reason)
        self._add_case(CaseKind.LOST, execution, reason, now, evidence)

    def child_killed(self, execution: Execution, now: float) -> None:
        """Count an execution that has failed because its process was killed."""
        self._count(execution, "lost", CHILD_KILLED)
        evidence = _EVIDENCE[CHILD_KILLED]
        self._add_case(CaseKind.LOST, execution, CHILD_KILLED, now, evidence)

    def found(self, execution: Execution) -> None:
        """Take back that an execution was lost."""
        self._count(execution, "found")
        self.cases.mark_found(execution.uuid, execution.started_at)

    def redelivered(self, execution: Execution, again: Execution, now: float) -> None:
        """Count an execution whose process is gone and whose message has started another one."""
        if execution.state == LOST:
            self.found(execution)
        execution.move(ENDED)
        self._count(execution, "redelivered")
        text = f"Its process is gone; its message has started again{_where(again)}."
        self._add_case(CaseKind.REDELIVERED, execution, "", now, text)
        again.starts += execution.starts
        self.started(again, now)

    def overlapping(self, again: Execution, first: Execution, cause: str, now: float) -> None:
        """Count an execution that started while another one of its message was running."""
        self._count(again, "overlapping", cause)
        text = f"Its message started again{_where(again)} before it ended."
        self._add_case(CaseKind.OVERLAPPING, first, cause, now, text)

    def repeated(self, again: Execution, first: Execution, cause: str, now: float) -> None:
        """Count an execution that started after another one of its message had ended."""
        self._count(again, "repeated", cause)
        text = f"Its message started again{_where(again)} after it had ended."
        self._add_case(CaseKind.REPEATED, first, cause, now, text)

    def unknown(self, execution: Execution, reason: str) -> None:
        """Count an execution that is over, as far as known, without an event."""
        execution.move(ENDED)
        self._poison.pop(execution.uuid, None)
        self._count(execution, "end_unknown", reason)

    def started(self, execution: Execution, now: float) -> None:
        """Record a start of a message that has started several times without an end."""
        if execution.starts < POISON_STARTS:
            return
        known = execution.uuid in self._poison
        if known or len(self._poison) < _MAX_POISON:
            self._poison[execution.uuid] = execution
        if not known:
            text = f"Its message has started {execution.starts} times without an end."
            self._add_case(CaseKind.POISON, execution, "", now, text)

    def ended(self, execution: Execution) -> None:
        """Record the end of a message that had started several times."""
        self._poison.pop(execution.uuid, None)

    def to_state(self, references: References) -> SavedBooks:
        """Return what is saved."""
        poison = [references.to(one) for one in self._poison.values()]
        return SavedBooks(self.cases.to_state(), poison)

    def restore(self, state: SavedBooks, find: Find) -> None:
        """Continue from a saved state."""
        self.cases.restore(state.cases)
        for execution in map(find, state.poison):
            if execution is not None:
                self._poison[execution.uuid] = execution

    def samples(self) -> Iterator[Sample]:
        """Yield the number of poisonous messages, and the largest number of starts of one."""
        for one in self.poison():
            yield definitions.TASK_POISON(one.messages, one.task, one.queue)
            yield definitions.TASK_POISON_STARTS(one.starts, one.task, one.queue)

    def poison(self) -> Iterator[PoisonStatus]:
        """Yield the poisonous messages of each task and queue."""
        counts, largest = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        for execution in self._poison.values():
            labels = execution.series.account.labels
            counts[labels] += 1
            largest[labels] = max(largest[labels], execution.starts)
        for labels, count in counts.items():
            yield PoisonStatus(*labels, count, largest[labels])

    def _count(self, execution: Execution, table: str, *value: str) -> None:
        self.counted += 1
        worker = execution.worker.name if execution.worker is not None else ""
        self._index.current(execution, worker).counter(table, *value).value += 1

    def _add_case(
        self, kind: CaseKind, execution: Execution, reason: str, now: float, evidence: str
    ) -> None:
        task, queue = execution.series.account.labels
        worker = execution.worker.name if execution.worker is not None else ""
        known = (execution.uuid, task, queue, worker, execution.started_at)
        self.cases.add(Case(kind, *known, now, reason, evidence))


def evidence(reason: str, since: str) -> str:
    """Return the sentence of a reason, which holds since a time."""
    return _EVIDENCE[reason].format(since=since)


def _where(execution: Execution) -> str:
    """Return the worker of an execution; empty once it is forgotten."""
    return f" on {execution.worker.name}" if execution.worker is not None else ""
