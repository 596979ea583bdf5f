"""The list of running and scheduled tasks, asked of the workers on demand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.session import Session
from celery_vitals.deadline import Deadline
from celery_vitals.events.running import RunningExecution
from celery_vitals.probe_runner import ProbeRunner
from celery_vitals.remote_control import Answer, Command, RemoteControl
from celery_vitals.workers.command_acceptance import CommandAcceptance
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.task_lists import (
    ListedTask,
    TaskReply,
    TaskState,
    listed_tasks,
    task_reply,
)

MAX_TASKS = 20_000
"""Tasks that are kept of a round; all of them are counted."""
_LIMIT = 2.5
"""Seconds for which a round waits for the replies of workers."""
_METHODS = {"active": TaskState.RUNNING, "scheduled": TaskState.SCHEDULED}
# With `safe`, arguments are sent as text, which Celery has shortened.
_COMMANDS = (Command("active", arguments={"safe": True}), Command("scheduled"))
NO_REPLY = "No worker has replied."
REFUSED = "Remote control is not available: no worker has answered a command."
YAML = "Workers may fail to encode their lists in YAML: they are not asked."


@dataclass(frozen=True)
class WorkerTasks:
    """The tasks of one worker; None is an unknown number."""

    worker: str
    replied: bool = False
    running: int | None = None
    scheduled: int | None = None
    by_events: bool = False
    """Whether `running` is by events."""


@dataclass(frozen=True)
class TaskList:
    """The tasks of all workers at one moment."""

    at: float | None = None
    """Unix time at which the round ended; None before the first one."""
    workers: tuple[WorkerTasks, ...] = ()
    tasks: tuple[ListedTask, ...] = ()
    dropped: int = 0
    """Number of tasks that were counted and are not kept."""
    discarded: int = 0
    """Number of replies that were too large to be read."""
    reason: str = ""
    """Why the workers were not asked, or the last round failed; empty after a success."""


@dataclass
class _Worker:
    """The replies of one worker in a round."""

    replies: dict[TaskState, TaskReply] = field(default_factory=dict)


Executions = Callable[[], Iterable[RunningExecution]]


class TaskLists:
    """Asks the workers for their tasks: one round at a time, for all that want to know.

    The connection is closed after each round, so that nothing is left with the broker.
    """

    def __init__(
        self, broker: BrokerClient, registry: WorkerRegistry, executions: Executions, *,
        asks_first: bool, arguments: bool,
    ) -> None:  # fmt: skip
        """`executions` returns those that run by events.

        `asks_first`: whether no collector finds out before whether workers answer commands.
        `arguments`: whether to keep those of tasks.
        """
        self._registry = registry
        self._executions = executions
        self._asks_first = asks_first
        self._arguments = arguments
        self._target = broker.target
        self._acceptance = CommandAcceptance(registry, broker.target.reply_serializer)
        self._session: Session[RemoteControl] = Session(broker, self._set_up)
        self._runner: ProbeRunner[TaskList] = ProbeRunner("task_list", _LIMIT * 2, self._measure)
        self._last = TaskList()

    def _set_up(self, connection: BrokerConnection) -> RemoteControl:
        target = self._target
        return RemoteControl(
            target.kind.mailbox(connection, target.control_exchange, target.control_serializer),
            task_reply,
        )

    def refresh(self, deadline: Deadline, max_age: float) -> None:
        """Run a round, or wait for the one that runs, unless one ended `max_age` seconds ago."""
        self._runner.wait(self._runner.start_or_join(deadline, max_age), deadline)

    def last(self) -> TaskList:
        """Return the results of the last round that succeeded, and why later ones failed."""
        outcome = self._runner.last_outcome
        if outcome is None or outcome.reason is None:
            return self._last
        return replace(self._last, reason=f"The last round failed: {outcome.reason.description}.")

    def _measure(self, deadline: Deadline) -> TaskList:
        if not self._target.broadcast:
            reason = (
                f"{self._target.capabilities.title}: {self._target.capabilities.workers.detail}."
            )
        elif self._target.reply_serializer == "yaml":
            reason = YAML
        else:
            # A command that workers refuse is an error in their logs.
            first = self._asks_first and self._acceptance.may_send()
            reason = "" if self._registry.answers_commands or first else REFUSED
        answers, discarded = ([], 0) if reason else self._ask(deadline)
        self._last = self._list(answers, discarded, reason)
        return self._last

    def _ask(self, deadline: Deadline) -> tuple[list[Answer], int]:
        expected = self._registry.expected()

        def ask(control: RemoteControl) -> tuple[list[Answer], int]:
            answers = control.ask(_COMMANDS, expected, deadline.within(_LIMIT))
            answered = [one.method for one in answers]
            self._acceptance.record(list(_METHODS), answered, control.received)
            return [one for one in answers if not one.late], control.discarded

        try:
            return self._session.use(deadline, ask)
        finally:
            self._session.close()

    def _list(self, answers: Iterable[Answer], discarded: int, reason: str) -> TaskList:
        found: dict[str, _Worker] = {}
        for answer in answers:
            if isinstance(answer.body, TaskReply):
                replies = found.setdefault(answer.worker, _Worker()).replies
                state = _METHODS[answer.method]
                replies[state] = answer.body + replies.get(state)
        events: dict[str, list[RunningExecution]] = {}
        for one in self._executions():
            if one.worker not in found or TaskState.RUNNING not in found[one.worker].replies:
                events.setdefault(one.worker, []).append(one)
        up = {one.name for one in self._registry.workers() if self._registry.is_up(one)}
        names = sorted(up | found.keys() | events.keys())
        workers = tuple(_numbers(name, found.get(name), events.get(name)) for name in names)
        tasks = tuple(islice(self._tasks(names, found, events), MAX_TASKS))
        total = sum((one.running or 0) + (one.scheduled or 0) for one in workers)
        if not reason and not found:
            reason = NO_REPLY
        return TaskList(time.time(), workers, tasks, total - len(tasks), discarded, reason)

    def _tasks(
        self,
        names: Iterable[str],
        found: dict[str, _Worker],
        events: dict[str, list[RunningExecution]],
    ) -> Iterator[ListedTask]:
        for name in names:
            queues = self._registry.queues_of(name)
            for state, reply in (found[name].replies if name in found else {}).items():
                yield from listed_tasks(name, state, reply, queues, self._arguments)
            for one in events.get(name, ()):
                yield ListedTask(
                    TaskState.RUNNING, name, one.task, one.uuid, one.queue, one.started_at, True
                )

    def close(self) -> None:
        """Close the connection, unless a round runs: then it does so itself."""
        if self._runner.idle:
            self._session.close()


def _numbers(
    name: str, worker: _Worker | None, events: list[RunningExecution] | None
) -> WorkerTasks:
    replies = worker.replies if worker is not None else {}
    counts: dict[TaskState, Any] = {state: reply.count for state, reply in replies.items()}
    by_events = TaskState.RUNNING not in counts and events is not None
    return WorkerTasks(
        name,
        bool(replies),
        len(events) if by_events and events is not None else counts.get(TaskState.RUNNING),
        counts.get(TaskState.SCHEDULED),
        by_events,
    )
