"""Who is there, and what do they say of themselves?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.brokers import BrokerClient, BrokerConnection, Session
from celery_vitals.brokers.generic.mailbox import KombuMailbox
from celery_vitals.brokers.redis.mailbox import RedisMailbox
from celery_vitals.deadline import Deadline
from celery_vitals.metrics import definitions as definitions
from celery_vitals.metrics.base import Sample
from celery_vitals.remote_control import Answer, Command, Control
from celery_vitals.workers import State, Stats, Worker, WorkerRegistry

_REPLY_LIMIT = 2.5
"""Seconds that a worker which is expected to answer is waited for; what it answers later still counts, next time."""


class WorkersCollector:
    """One broadcast a round: `stats`, which doubles as ping, `active_queues` for those whose answer is old, and
    `registered`, once, for one that looks stalled and may only keep to a rate limit."""

    name = "workers"
    limit = 5.0

    def __init__(
        self,
        broker: BrokerClient,
        registry: WorkerRegistry,
        known_queues: Callable[[], Iterable[str]],
    ) -> None:
        self._registry = registry
        self._known_queues = known_queues
        self._target = broker.target
        self._session: Session[Control] = Session(broker, self._set_up)

    def _set_up(self, connection: BrokerConnection) -> Control:
        mailbox = RedisMailbox if self._target.driver == "redis" else KombuMailbox
        return Control(mailbox(connection, self._target.control_exchange))

    def measure(self, deadline: Deadline) -> bool:
        """Ask, and take down the answers in the fleet."""
        registry = self._registry
        expected = registry.expected()
        wanted = registry.queues_wanted()
        commands = [Command("stats")]
        if not expected or wanted:
            commands.append(Command("active_queues", wanted if expected else None))
        if limits := registry.limits_wanted():
            commands.append(Command("registered", limits))

        def ask(control: Control) -> tuple[list[Answer], int | None]:
            return control.ask(commands, expected, deadline.within(_REPLY_LIMIT)), control.silent

        asked = time.monotonic()
        try:
            answers, silent = self._session.use(deadline, ask)
            registry.begin_round(asked)
            for answer in answers:
                self._take(answer)
            registry.end_round(silent)
        finally:
            registry.first_round.set()
        return True

    def _take(self, answer: Answer) -> None:
        match answer.method:
            case "stats":
                self._registry.stats_replied(
                    answer.worker, answer.body, answer.seconds, answer.late
                )
            case "active_queues":
                self._registry.queues_replied(answer.worker, answer.body)
            case "registered":
                self._registry.limits_replied(answer.worker, answer.body)

    def samples(self, value: bool | None) -> Iterator[Sample]:
        """What is known of each worker; after a failed round as it was, each with the time it was last heard of."""
        for worker in self._registry.workers():
            yield from self._worker(worker, asked=value is not None)
        if value is not None:
            for queue, (workers, slots) in sorted(
                self._registry.consumers_of(self._known_queues()).items()
            ):
                yield definitions.QUEUE_WORKERS(workers, queue)
                if slots is not None:
                    yield definitions.QUEUE_SLOTS(slots, queue)

    def _worker(self, worker: Worker, asked: bool) -> Iterator[Sample]:
        up, name = self._registry.is_up(worker), worker.name
        yield definitions.WORKER_UP(up, name)
        now = self._registry.state(worker)
        yield from (definitions.WORKER_STATE(state is now, name, state.value) for state in State)
        yield from _signs(worker, asked)
        if worker.stats is not None:
            yield from _counters(name, worker.stats)
            if up:
                yield from _gauges(worker, worker.stats)
        if up and worker.active is not None:
            yield definitions.WORKER_ACTIVE(worker.active, name)
        if up and worker.queues is not None:
            yield definitions.WORKER_QUEUES(len(worker.queues), name)

    def blind_spots(self, value: bool | None) -> Iterator[BlindSpot]:
        """Nobody there, too many, or several under one name."""
        if self._registry.full:
            text = "There are more workers than may be shown: of the others, and of what they consume, nothing is seen."
            yield BlindSpot("workers", text, "--max-workers")
        if shared := sorted(self._registry.shared()):
            names = ", ".join(shared[:3]) + (" and others" if len(shared) > 3 else "")
            text = (
                f"{names}: several workers answer under one node name. What is shown of it is of one of them, and of"
                " their events none are counted as missed. Give each a name of its own: celery worker -n NAME@%h."
            )
            yield BlindSpot("worker_names", text, "")
        if value and not self._registry.workers():
            yield BlindSpot(
                "workers",
                "No worker has answered. None runs, or the workers have remote control off"
                " (worker_enable_remote_control), or they listen on another broker, virtual host or database, or on"
                " another control exchange, which the app would tell.",
                "--app",
            )

    def close(self) -> None:
        """Remove the reply mailbox and close the connection."""
        self._session.close()


def _signs(worker: Worker, asked: bool) -> Iterator[Sample]:
    """Its signs of life, and its lives."""
    name = worker.name
    farewell = worker.seen_at if worker.offline else None
    for source, at in (
        ("reply", worker.replied_at),
        ("heartbeat", worker.heartbeat_at),
        ("farewell", farewell),
    ):
        if at is not None:
            yield definitions.WORKER_LAST_SEEN(at, name, source)
    if asked:
        yield definitions.WORKER_REPLIED(worker.replied, name)
    if asked and worker.replied:
        yield definitions.WORKER_INSTANCES(worker.instances, name)
        if worker.reply_seconds is not None:
            yield definitions.WORKER_REPLY(worker.reply_seconds, name)
    if worker.processes or worker.pids:
        yield definitions.WORKER_RESTARTS(worker.restarts, name)
    if worker.started_at is not None:
        yield definitions.WORKER_START(worker.started_at, name)


def _counters(name: str, stats: Stats) -> Iterator[Sample]:
    for task, count in sorted(stats.accepted.items()):
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
