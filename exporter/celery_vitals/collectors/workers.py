"""The collector `workers`: state and statistics of each worker, by remote control."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import islice

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.intake import MAX_REPLY, MAX_ROUND
from celery_vitals.brokers.session import Session
from celery_vitals.collectors.base import Dependencies, ProbingCollector
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.queue_registry import QueueRegistry
from celery_vitals.remote_control import Answer, Command, RemoteControl
from celery_vitals.workers.command_acceptance import CommandAcceptance
from celery_vitals.workers.registered_tasks import REGISTERED_ARGUMENTS, registered_tasks
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.state import State
from celery_vitals.workers.stats import Stats
from celery_vitals.workers.task_settings import TaskSettings
from celery_vitals.workers.worker import Worker

log = logging.getLogger(__name__)

MAX_WORKER_QUEUES = 10_000
"""Limit of the series of `celery_worker_queue_info`: workers times the queues of each."""
_REPLY_LIMIT = 2.5
"""Seconds for which a round waits for the expected replies; a later reply counts in the next
round."""

_DISCARDED = (
    f"Replies of workers are not read: {{}} in the last round. A reply may have"
    f" {MAX_REPLY >> 20} MiB, all replies of a round together {MAX_ROUND >> 20} MiB."
)


class WorkersCollector(ProbingCollector[bool]):
    """The collector that sends one remote control request per round.

    The replies are recorded in the `WorkerRegistry`.

    The commands are `stats`, which also serves as ping; `active_queues` for the workers whose
    previous reply is old; and `registered`, once, for a worker under suspicion that a rate limit
    may explain, or that has received a task of unknown settings.
    """

    name = "workers"

    @classmethod
    def create(cls, shared: Dependencies) -> WorkersCollector | None:
        """Return the collector where the broker kind has broadcasts."""
        target = shared.broker.target
        if target.broadcast:
            counts = shared.settings.worker_task_counts
            known = shared.workers, shared.queues, shared.task_settings
            return cls(shared.broker, *known, task_counts=counts)
        shared.add_unsupported(cls.name, "Workers are not probed", target.capabilities.workers)
        return None

    def __init__(
        self,
        broker: BrokerClient,
        registry: WorkerRegistry,
        queues: QueueRegistry,
        task_settings: TaskSettings,
        *,
        task_counts: bool = True,
    ) -> None:
        """`task_counts`: whether to report the tasks of each worker by name."""
        self._task_counts = task_counts
        self._registry = registry
        self._queues = queues
        self._task_settings = task_settings
        self._target = broker.target
        self._discarded = 0
        """Replies of the last round that were too large to be read."""
        self._acceptance = CommandAcceptance(registry, broker.target.reply_serializer)
        self._session: Session[RemoteControl] = Session(broker, self._set_up)

    def _set_up(self, connection: BrokerConnection) -> RemoteControl:
        target = self._target
        return RemoteControl(
            target.kind.mailbox(connection, target.control_exchange, target.control_serializer)
        )

    def measure(self, deadline: Deadline) -> bool:
        """Run one round of remote control; the results are in the registry.

        Returns whether workers answer, or there are none.
        """
        registry, acceptance = self._registry, self._acceptance
        expected = registry.expected()
        commands = list(self._commands(expected)) if acceptance.may_send() else []

        def ask(control: RemoteControl) -> tuple[list[Answer], int | None, int]:
            answers = control.ask(commands, expected, deadline.within(_REPLY_LIMIT))
            acceptance.record(
                [command.method for command in commands],
                [answer.method for answer in answers],
                control.received,
            )
            silent = control.silent if commands else None
            return answers, silent, control.discarded

        requested = time.monotonic()
        try:
            answers, silent, discarded = self._session.use(deadline, ask)
            self._record_asked(commands)
            self._record_discarded(discarded)
            registry.begin_round(requested)
            for answer in answers:
                self._record(answer)
            registry.end_round(silent)
        finally:
            registry.first_round.set()
        return not acceptance.unanswered

    def _commands(self, expected: frozenset[str]) -> Iterator[Command]:
        registry = self._registry
        stats = Command("ping" if self._acceptance.refuses_stats else "stats")
        stale = registry.with_stale_queues()
        # At first last: a worker that cannot encode its answer closes its mailbox for a moment.
        yield from [stats] if registry.answers_commands else []
        if not expected or stale:
            yield Command("active_queues", stale if expected else None)
        missing = registry.with_missing_rate_limits()
        if registry.answers_commands:
            missing |= self._task_settings.workers_to_ask(registry.workers(), expected)
        if missing:
            yield Command("registered", missing, REGISTERED_ARGUMENTS)
        yield from [] if registry.answers_commands else [stats]

    def _record(self, answer: Answer) -> None:
        match answer.method:
            case "stats" | "ping":
                self._registry.stats_replied(
                    answer.worker, answer.body, answer.seconds, answer.late
                )
            case "active_queues":
                self._registry.queues_replied(answer.worker, answer.body)
            case "registered":
                tasks = registered_tasks(answer.body)
                if tasks is not None:
                    self._registry.rate_limits_replied(answer.worker, tasks.values())
                    self._task_settings.replied(answer.worker, tasks)

    def _record_asked(self, commands: Iterable[Command]) -> None:
        for command in commands:
            if command.method == "registered":
                self._task_settings.asked(self._registry.workers(), command.destination or ())

    def _record_discarded(self, count: int) -> None:
        if count and not self._discarded:
            log.warning("%s", _DISCARDED.format(count))
        self._discarded = count

    def samples(self, value: bool | None) -> Iterator[Sample]:
        """Yield the samples of each known worker.

        After a failed round they keep their values; `celery_worker_last_seen_timestamp_seconds`
        shows their age.
        """
        for worker in self._registry.workers():
            yield from self._worker(worker, replies_known=bool(value))
        for worker_name, queue in islice(self._worker_queues(), MAX_WORKER_QUEUES):
            yield definitions.WORKER_QUEUE_INFO(1, worker_name, queue)
        if value:
            queues = self._queues.names() | self._queues.included(self._registry.queues())
            for queue, (workers, slots) in sorted(self._registry.consumers_of(queues).items()):
                yield definitions.QUEUE_WORKERS(workers, queue)
                if slots is not None:
                    yield definitions.QUEUE_SLOTS(slots, queue)

    def _worker_queues(self) -> Iterator[tuple[str, str]]:
        """Yield each worker that is up with each exported queue that it consumes."""
        exported = self._queues.included(self._registry.queues())
        for worker in self._registry.workers():
            if worker.queues and self._registry.is_up(worker):
                for queue in sorted(worker.queues & exported):
                    yield worker.name, queue

    def _worker(self, worker: Worker, replies_known: bool) -> Iterator[Sample]:
        up, name = self._registry.is_up(worker), worker.name
        yield definitions.WORKER_UP(up, name)
        current = self._registry.state(worker)
        for state in State:
            yield definitions.WORKER_STATE(state is current, name, state.value)
        yield from _signs_of_life(worker, replies_known)
        if worker.stats is not None:
            yield from _counters(name, worker.stats, self._task_counts)
            if up:
                yield from _gauges(worker, worker.stats)
        if up and worker.active is not None:
            yield definitions.WORKER_ACTIVE(worker.active, name)
        if up and worker.queues is not None:
            yield definitions.WORKER_QUEUES(len(worker.queues), name)

    def blind_spots(self, value: bool | None) -> Iterator[BlindSpot]:
        """Yield a blind spot for missing, too many, or equally named workers."""
        if self._registry.limit_reached:
            text = (
                "The number of workers exceeds the limit. Further workers are not exported, and are"
                " not counted as consumers of their queues."
            )
            yield BlindSpot("workers", text, "--max-workers")
        if any(islice(self._worker_queues(), MAX_WORKER_QUEUES, None)):
            text = (
                f"The workers consume more than {MAX_WORKER_QUEUES} queues in total. The queues of"
                " the last workers by name are missing in celery_worker_queue_info."
            )
            yield BlindSpot("worker_queues", text, "--queue-exclude")
        if shared := sorted(self._registry.shared_names()):
            names = ", ".join(shared[:3]) + (" and others" if len(shared) > 3 else "")
            text = (
                f"Several workers share a node name: {names}. The exporter shows the values of one"
                " of them, and does not count their missed events. Give each worker a unique name:"
                " celery worker -n NAME@%h."
            )
            yield BlindSpot("worker_names", text, "")
        if self._discarded:
            yield BlindSpot("worker_replies", _DISCARDED.format(self._discarded))
        yield from self._unanswered(value)
        if value and not self._registry.workers():
            text = (
                "No worker has replied. Either no worker is running, or remote control is disabled"
                " (worker_enable_remote_control), or the workers use another broker, virtual host,"
                " database or global_keyprefix, or another control exchange, which --app would set."
            )
            yield BlindSpot("workers", text, "--app")

    def _unanswered(self, value: bool | None) -> Iterator[BlindSpot]:
        serializer = self._target.control_serializer
        if value is False:
            text = (
                f"Workers have received a command in {serializer} and none has answered. Either"
                " they do not accept it (accept_content), which --app would show, or all of them"
                " are busy or frozen. The command is not repeated until one answers, or all have"
                " restarted; until then only their events are known."
            )
            yield BlindSpot("workers", text, "--app")
        elif silent := self._registry.without_replies():
            names = ", ".join(silent[:3]) + (" and others" if len(silent) > 3 else "")
            text = (
                f"Workers that send heartbeats have never replied: {names}. Their queues and slots"
                " are unknown, and a queue that only they may consume has no number of workers."
                " Their remote control is off (worker_enable_remote_control), or they run a long"
                " task in a pool that does not reply meanwhile (solo)."
            )
            yield BlindSpot("worker_replies", text, "worker_enable_remote_control = True")
        if self._acceptance.refuses_stats:
            text = (
                "Workers answer commands, but not stats, which is not repeated: with"
                ' task_serializer = "yaml" they cannot encode the answer. Their slots, tasks and'
                " resources are unknown."
            )
            yield BlindSpot("worker_stats", text, "")

    def close(self, deadline: Deadline) -> None:
        """Remove the reply mailbox and close the connection."""
        self._session.close()


def _signs_of_life(worker: Worker, replies_known: bool) -> Iterator[Sample]:
    """Yield the times of its signs of life, its replies, restarts and start."""
    name = worker.name
    offline_at = worker.seen_at if worker.offline else None
    for source, at in (
        ("reply", worker.replied_at),
        ("heartbeat", worker.heartbeat_at),
        ("farewell", offline_at),
    ):
        if at is not None:
            yield definitions.WORKER_LAST_SEEN(at, name, source)
    if replies_known:
        yield definitions.WORKER_REPLIED(worker.replied, name)
    if replies_known and worker.replied:
        yield definitions.WORKER_INSTANCES(worker.instances, name)
        if worker.reply_seconds is not None:
            yield definitions.WORKER_REPLY(worker.reply_seconds, name)
    if worker.processes or worker.pids:
        yield definitions.WORKER_RESTARTS(worker.restarts, name)
    if worker.started_at is not None:
        yield definitions.WORKER_START(worker.started_at, name)


def _counters(name: str, stats: Stats, by_task: bool) -> Iterator[Sample]:
    for task, count in sorted(stats.accepted.items()) if by_task else ():
        yield definitions.WORKER_ACCEPTED(count, name, task)
    yield definitions.WORKER_PROCESSED(stats.processed, name)
    for mode, seconds in (("user", stats.cpu_user), ("system", stats.cpu_system)):
        if seconds is not None:
            yield definitions.WORKER_CPU(seconds, name, mode)


def _gauges(worker: Worker, stats: Stats) -> Iterator[Sample]:
    name = worker.name
    yield definitions.WORKER_INFO(1, name, stats.pool, worker.version)
    if stats.slots is not None:
        yield definitions.WORKER_SLOTS(stats.slots, name)
    if stats.prefetch is not None:
        yield definitions.WORKER_PREFETCH(stats.prefetch, name)
    if stats.max_resident is not None:
        yield definitions.WORKER_MEMORY(stats.max_resident, name)
