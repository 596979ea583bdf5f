"""Whatever workers and brokers say, in whatever order: one state, and none without the signal that proves it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Protocol
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from celery_vitals.workers import State, WorkerRegistry
from celery_vitals.workers import registry as fleet_module
from celery_vitals.workers.processes import MOST
from celery_vitals.workers.stall_detection import IDLE_FOR, OBSERVATIONS, UNCONSUMED_FOR
from tests.support.worker_farm import PREFORK, SOLO, TIMEOUT, Numbers

NAMES = st.sampled_from(["a@h", "b@h"])
COUNTS = st.none() | st.integers(-2, 12) | st.just(10**25)
NUMBERS = st.builds(Numbers, COUNTS, COUNTS, st.none() | st.integers(0, 3))
SIGNS = {State.BUSY, State.NOT_CONSUMING, State.STALLED}


class Timed(Protocol):
    """Whatever has a time of its own."""

    now: float


def clock_of(owner: Timed) -> SimpleNamespace:
    """The module `time`, at the owner's time."""
    return SimpleNamespace(monotonic=lambda: owner.now, time=lambda: owner.now + 1e9)


class Anything(RuleBasedStateMachine):
    """Two workers, of which anything is heard at any time; beside it, what was heard is noted down in a plain way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.registry = WorkerRegistry(TIMEOUT, 3600.0)
        self.heard: dict[str, float] = {}
        self.anyone = 0.0
        self.empty: dict[str, bool] = {}
        self.waited: dict[str, tuple[float, int]] = {}
        self.restarts: dict[str, int] = {}
        self._patch = mock.patch.object(fleet_module, "time", clock_of(self))
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
        self.anyone = self.now
        for name, pid, count, solo, late in answers:
            body: dict[str, Any] = {
                **(SOLO if solo else PREFORK),
                "pid": pid,
                "total": {"t": count},
                "uptime": self.now,
            }
            self.registry.stats_replied(name, body, 0.0, late)
            self.heard[name] = self.now
        self.registry.end_round(silent)

    @rule(name=NAMES, queues=st.lists(st.sampled_from(["q", "r"]), max_size=2, unique=True))
    def tells_its_queues(self, name: str, queues: list[str]) -> None:
        if any(worker.name == name for worker in self.registry.workers()):
            self.registry.queues_replied(name, [{"name": queue} for queue in queues])

    @rule(
        name=NAMES,
        body=st.lists(st.sampled_from(["t", "t [rate_limit=1/h]", "t [rate_limit=x]"])) | st.none(),
    )
    def tells_its_limits(self, name: str, body: Any) -> None:
        self.registry.limits_replied(name, body)

    @rule(name=NAMES, active=COUNTS, processed=COUNTS, pid=st.none() | st.integers(1, 3))
    def a_heartbeat(
        self, name: str, active: int | None, processed: int | None, pid: int | None
    ) -> None:
        self.registry.heartbeat(name, "", active, processed, pid)
        self.heard[name] = self.anyone = self.now

    @rule(name=NAMES, active=COUNTS)
    def goes(self, name: str, active: int | None) -> None:
        self.registry.offline(name, active)
        self.anyone = self.now
        if name in self.heard:
            self.heard[name] = self.now

    @rule(name=NAMES)
    def has_ended(self, name: str) -> None:
        self.registry.finished(name)

    @rule(queues=st.dictionaries(st.sampled_from(["q", "r"]), NUMBERS), times=st.integers(1, 4))
    def looks(self, queues: dict[str, Numbers], times: int) -> None:
        for _ in range(times):
            self.registry.saw_queues(queues)
            sick = {
                name
                for name, numbers in queues.items()
                if (numbers.ready or 0) > 0 or numbers.consumers == 0
            }
            for worker in self.registry.workers():
                if worker.queues and worker.queues & sick and not worker.offline:
                    since, looks = self.waited.get(worker.name, (self.now, 0))
                    self.waited[worker.name] = since, looks + 1
                else:
                    self.waited.pop(worker.name, None)
            self.now += 3.0

    @rule(
        name=NAMES,
        numbers=NUMBERS,
        times=st.integers(1, 6),
        limits=st.sampled_from([[], ["t [rate_limit=1/m]"], None]),
    )
    def stands_still(self, name: str, numbers: Numbers, times: int, limits: Any) -> None:
        """What random steps seldom come to: it says the same again and again."""
        for _ in range(times):
            self.a_round([(name, 1, 5, False, False)], None)
            self.tells_its_queues(name, ["q"])
            self.tells_its_limits(name, limits)
            self.a_heartbeat(name, 0, 5, 1)
            self.looks({"q": numbers}, 1)
            self.now += 10.0

    @invariant()
    def no_claim_without_its_signal(self) -> None:
        for worker in self.registry.workers():
            state = self.registry.state(worker)
            silent_for = self.anyone - self.heard.get(worker.name, 0.0)
            assert self.registry.is_up(worker) == (state not in {State.GONE, State.DRAINING})
            if state in SIGNS or state is State.UP:
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
                    stats.pool == "solo" and worker.connected
                )
            if state is State.STALLED or (state is State.NOT_CONSUMING and worker.queues):
                since, looks = self.waited[worker.name]
                assert looks >= OBSERVATIONS
                assert self.now - since >= min(IDLE_FOR, UNCONSUMED_FOR)
                assert worker.instances <= 1  # none: it only beats its heart
            if state is State.NOT_CONSUMING and not worker.queues:
                assert worker.queues == frozenset()

    @invariant()
    def restarts_only_grow(self) -> None:
        for worker in self.registry.workers():
            assert worker.restarts >= self.restarts.get(worker.name, 0)
            assert len(worker.processes) <= MOST
            self.restarts[worker.name] = worker.restarts


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class Scraped:
    """A worker that answers everything, looked at every 15 seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.registry = WorkerRegistry(TIMEOUT, 3600.0)

    def scrape(self, begun: int, active: int, **queues: Numbers) -> State:
        with mock.patch.object(fleet_module, "time", clock_of(self)):
            self.now += 15.0
            self.registry.begin_round(self.now)
            self.registry.stats_replied("a@h", {**PREFORK, "total": {"t": begun}}, 0.0, False)
            self.registry.queues_replied("a@h", [{"name": "q"}])
            self.registry.limits_replied("a@h", [])
            self.registry.end_round(None)
            self.registry.heartbeat("a@h", "", active, begun, 100)
            self.registry.saw_queues(queues)
            (worker,) = self.registry.workers()
            return self.registry.state(worker)


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 3), COUNTS, COUNTS), min_size=1, max_size=40
    )
)
def test_whoever_begins_a_task_now_and_then_is_never_accused(
    steps: list[tuple[int, int, int | None, int | None]],
) -> None:
    """However much waits and is held."""
    scraped, begun = Scraped(), 0
    for more, active, waits, held in steps:
        begun += more
        assert scraped.scrape(begun, active, q=Numbers(waits, held)) in {State.UP, State.BUSY}


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1, max_size=40))
def test_an_idle_worker_is_never_accused(steps: list[tuple[int | None, int | None]]) -> None:
    """Nothing waits in its queue, whatever it holds and whatever waits elsewhere."""
    scraped = Scraped()
    for held, elsewhere in steps:
        assert (
            scraped.scrape(5, 0, q=Numbers(0, held, 1), other=Numbers(elsewhere, held, 0))
            is State.UP
        )


@given(
    st.integers(1, 10**6), st.none() | st.integers(0, 100), st.integers(0, 1), st.integers(0, 50)
)
def test_what_lasts_is_said_in_the_end_and_taken_back_by_the_first_task(
    waits: int, held: int | None, active: int, after: int
) -> None:
    scraped = Scraped()
    for begun in range(after):
        scraped.scrape(begun, active, q=Numbers(waits, held))
    states = [scraped.scrape(after, active, q=Numbers(waits, held)) for _ in range(8)]
    accused = (
        State.NOT_CONSUMING
        if held is not None and held < PREFORK["prefetch_count"]
        else State.STALLED
    )
    first = states.index(accused)
    assert states == [State.UP] * first + [accused] * (8 - first)
    assert scraped.scrape(after + 1, active, q=Numbers(waits, held)) is State.UP
