"""Any messages in any order: each worker has one state, and none without its evidence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Protocol
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from celery_vitals.workers import registry as registry_module
from celery_vitals.workers.processes import MAX_PROCESSES
from celery_vitals.workers.registered_tasks import RegisteredTask
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.stall_detection import IDLE_FOR, OBSERVATIONS, UNCONSUMED_FOR
from celery_vitals.workers.state import State
from tests.support.worker_farm import PREFORK, SOLO, TIMEOUT, Counts

NAMES = st.sampled_from(["a@h", "b@h"])
COUNTS = st.none() | st.integers(-2, 12) | st.just(10**25)
QUEUE_COUNTS = st.builds(Counts, COUNTS, COUNTS, st.none() | st.integers(0, 3))
NEEDS_EVIDENCE = {State.BUSY, State.NOT_CONSUMING, State.STALLED}


class Timed(Protocol):
    """An object with its own clock."""

    now: float


def clock_of(owner: Timed) -> SimpleNamespace:
    """The module `time` with the owner's clock."""
    return SimpleNamespace(monotonic=lambda: owner.now, time=lambda: owner.now + 1e9)


class RandomMessages(RuleBasedStateMachine):
    """Two workers that send any message at any time, beside a simple model of the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.registry = WorkerRegistry(TIMEOUT, 3600.0)
        self.last_seen: dict[str, float] = {}
        self.last_contact = 0.0
        self.empty: dict[str, bool] = {}
        self.waited: dict[str, tuple[float, int]] = {}
        self.restarts: dict[str, int] = {}
        self._patch = mock.patch.object(registry_module, "time", clock_of(self))
        self._patch.start()

    def teardown(self) -> None:
        self._patch.stop()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 15.0, 31.0, 121.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        answers=st.lists(
            st.tuples(NAMES, st.integers(1, 2), st.integers(0, 9), st.booleans(), st.booleans()),
            max_size=4,
        ),
        silent=st.none() | st.integers(0, 3),
    )
    def a_round(self, answers: list[tuple[str, int, int, bool, bool]], silent: int | None) -> None:
        self.now += 0.01
        self.registry.begin_round(self.now)
        self.last_contact = self.now
        for name, pid, count, solo, late in answers:
            body: dict[str, Any] = {
                **(SOLO if solo else PREFORK),
                "pid": pid,
                "total": {"t": count},
                "uptime": self.now,
            }
            self.registry.stats_replied(name, body, 0.0, late)
            self.last_seen[name] = self.now
        self.registry.end_round(silent)

    @rule(name=NAMES, queues=st.lists(st.sampled_from(["q", "r"]), max_size=2, unique=True))
    def replies_its_queues(self, name: str, queues: list[str]) -> None:
        if any(worker.name == name for worker in self.registry.workers()):
            self.registry.queues_replied(name, [{"name": queue} for queue in queues])

    @rule(
        name=NAMES,
        limits=st.lists(st.sampled_from([None, "1/h", "x"])),
    )
    def replies_its_rate_limits(self, name: str, limits: list[str | None]) -> None:
        self.registry.rate_limits_replied(name, [RegisteredTask(None, None, one) for one in limits])

    @rule(name=NAMES, active=COUNTS, processed=COUNTS, pid=st.none() | st.integers(1, 3))
    def a_heartbeat(
        self, name: str, active: int | None, processed: int | None, pid: int | None
    ) -> None:
        self.registry.heartbeat(name, "", active, processed, pid)
        self.last_seen[name] = self.last_contact = self.now

    @rule(name=NAMES, active=COUNTS)
    def sends_an_offline_event(self, name: str, active: int | None) -> None:
        self.registry.offline(name, active)
        self.last_contact = self.now
        if name in self.last_seen:
            self.last_seen[name] = self.now

    @rule(name=NAMES)
    def has_drained(self, name: str) -> None:
        self.registry.drained(name)

    @rule(
        queues=st.dictionaries(st.sampled_from(["q", "r"]), QUEUE_COUNTS), times=st.integers(1, 4)
    )
    def observes_queues(self, queues: dict[str, Counts], times: int) -> None:
        for _ in range(times):
            self.registry.observe_queues(queues)
            suspect = {
                name
                for name, counts in queues.items()
                if (counts.ready or 0) > 0 or counts.consumers == 0
            }
            for worker in self.registry.workers():
                if worker.queues and worker.queues & suspect and not worker.offline:
                    since, observations = self.waited.get(worker.name, (self.now, 0))
                    self.waited[worker.name] = since, observations + 1
                else:
                    self.waited.pop(worker.name, None)
            self.now += 3.0

    @rule(
        name=NAMES,
        counts=QUEUE_COUNTS,
        times=st.integers(1, 6),
        limits=st.sampled_from([[], ["1/m"]]),
    )
    def repeats_one_situation(
        self, name: str, counts: Counts, times: int, limits: list[str | None]
    ) -> None:
        """Repeat the same messages, a sequence that random steps seldom produce."""
        for _ in range(times):
            self.a_round([(name, 1, 5, False, False)], None)
            self.replies_its_queues(name, ["q"])
            self.replies_its_rate_limits(name, limits)
            self.a_heartbeat(name, 0, 5, 1)
            self.observes_queues({"q": counts}, 1)
            self.now += 10.0

    @invariant()
    def no_state_without_its_evidence(self) -> None:
        for worker in self.registry.workers():
            state = self.registry.state(worker)
            silent_for = self.last_contact - self.last_seen.get(worker.name, 0.0)
            assert self.registry.is_up(worker) == (state not in {State.GONE, State.DRAINING})
            if state in NEEDS_EVIDENCE or state is State.UP:
                assert silent_for <= TIMEOUT
                assert not worker.offline
            if state is State.DRAINING:
                assert worker.offline
                assert silent_for <= TIMEOUT
            if state is State.BUSY:
                stats = worker.stats
                assert stats is not None
                assert stats.slots
                assert (worker.active or 0) >= stats.slots or (
                    stats.pool == "solo" and worker.broker_connected
                )
            if state is State.STALLED or (state is State.NOT_CONSUMING and worker.queues):
                since, observations = self.waited[worker.name]
                assert observations >= OBSERVATIONS
                assert self.now - since >= min(IDLE_FOR, UNCONSUMED_FOR)
                assert worker.instances <= 1  # 0 with heartbeats only
            if state is State.NOT_CONSUMING and not worker.queues:
                assert worker.queues == frozenset()

    @invariant()
    def restarts_only_grow(self) -> None:
        for worker in self.registry.workers():
            assert worker.restarts >= self.restarts.get(worker.name, 0)
            assert len(worker.processes) <= MAX_PROCESSES
            self.restarts[worker.name] = worker.restarts


TestRandomMessages = RandomMessages.TestCase
TestRandomMessages.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class Scraped:
    """A worker that replies to all requests, scraped every 15 seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.registry = WorkerRegistry(TIMEOUT, 3600.0)

    def scrape(self, started: int, active: int, **queues: Counts) -> State:
        with mock.patch.object(registry_module, "time", clock_of(self)):
            self.now += 15.0
            self.registry.begin_round(self.now)
            self.registry.stats_replied("a@h", {**PREFORK, "total": {"t": started}}, 0.0, False)
            self.registry.queues_replied("a@h", [{"name": "q"}])
            self.registry.rate_limits_replied("a@h", [])
            self.registry.end_round(None)
            self.registry.heartbeat("a@h", "", active, started, 100)
            self.registry.observe_queues(queues)
            (worker,) = self.registry.workers()
            return self.registry.state(worker)


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 3), COUNTS, COUNTS), min_size=1, max_size=40
    )
)
def test_a_worker_that_starts_a_task_now_and_then_is_never_stalled(
    steps: list[tuple[int, int, int | None, int | None]],
) -> None:
    """Whatever the number of messages that wait or are unacknowledged."""
    scraped, started = Scraped(), 0
    for more, active, waiting, held in steps:
        started += more
        assert scraped.scrape(started, active, q=Counts(waiting, held)) in {State.UP, State.BUSY}


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=40))
def test_an_idle_worker_is_always_up(steps: list[tuple[int | None, int | None]]) -> None:
    """No message waits in its queue, whatever it holds and whatever waits in other queues."""
    scraped = Scraped()
    for held, elsewhere in steps:
        assert (
            scraped.scrape(5, 0, q=Counts(0, held, 1), other=Counts(elsewhere, held, 0)) is State.UP
        )


@given(
    st.integers(1, 10**6), st.none() | st.integers(0, 100), st.integers(0, 1), st.integers(0, 50)
)
def test_a_lasting_suspicion_is_confirmed_and_dropped_by_the_first_started_task(
    waiting: int, held: int | None, active: int, after: int
) -> None:
    scraped = Scraped()
    for started in range(after):
        scraped.scrape(started, active, q=Counts(waiting, held))
    states = [scraped.scrape(after, active, q=Counts(waiting, held)) for _ in range(8)]
    expected = (
        State.NOT_CONSUMING
        if held is not None and held < PREFORK["prefetch_count"]
        else State.STALLED
    )
    first = states.index(expected)
    assert states == [State.UP] * first + [expected] * (8 - first)
    assert scraped.scrape(after + 1, active, q=Counts(waiting, held)) is State.UP
