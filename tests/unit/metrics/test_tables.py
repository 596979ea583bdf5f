"""Tables: text and samples equal the counted values, also during concurrent updates."""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from celery_vitals.metrics.base import MetricDefinition, MetricGroup
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.series import ValueSeries
from celery_vitals.metrics.tables import Copy, HistogramTable, TableFamily, ValueTable

EVENTS = MetricGroup("events")
SENT = EVENTS.counter("celery_task_sent_total", "task", "queue", help="Tasks sent.")
FAILED = EVENTS.counter(
    "celery_task_failed_total", "task", "queue", "exception", help="Tasks failed."
)
RUNNING = EVENTS.gauge("celery_task_running", "task", help='Tasks "running"\nor \\ not.')
RUNTIME = EVENTS.histogram("celery_task_runtime_seconds", "task", "queue", help="Runtimes.")
BUCKETS = (0.1, 1.0, 2.5)
LABELS = [(), ("task",), ("task", "queue"), ("zone", "customer", "le_", "Task", "lf", "exception")]

# Lone surrogates among them, and few enough that sequences meet the same rows again.
odd = st.text(st.characters(exclude_categories=()), max_size=4) | st.sampled_from(
    ["", '"', "\\", "\n", "\\n", "é", "🐇", "a}"]
)
numbers = st.floats() | st.integers(0, 2_000_000)
seconds = st.floats(0, 1e7) | st.sampled_from([0.0, 0.1, 1.0, 2.5, 1e300])


class Families:
    def __init__(self, families: Iterable[Metric]) -> None:
        self.families = families

    def collect(self) -> Iterable[Metric]:
        return self.families


def limiter(caps: dict[str, int] | None = None, series: int = 10_000) -> CardinalityLimiter:
    return CardinalityLimiter(caps or {}, series, threading.Lock())


def assert_same_text(family: TableFamily, expected: Metric) -> None:
    """Compare both formats with families built by prometheus_client's classes."""
    source = Families([expected])
    assert family.text(False).encode() == generate_latest(source)
    openmetrics: bytes = generate_openmetrics(source)  # type: ignore[no-untyped-call]
    assert f"{family.text(True)}# EOF\n".encode() == openmetrics
    # Compared as text: NaN is not itself.
    assert repr(family.samples) == repr(expected.samples)


def written(labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(value.encode(errors="replace").decode() for value in labels)


@st.composite
def declarations(
    draw: st.DrawFn, kinds: Sequence[str]
) -> tuple[MetricDefinition, list[tuple[str, ...]]]:
    """Generate a metric and some label sets."""
    names = draw(st.sampled_from(LABELS))
    declare = getattr(EVENTS, draw(st.sampled_from(kinds)))
    sets = draw(st.lists(st.tuples(*[odd] * len(names)), min_size=1, max_size=4))
    return declare("celery_something_total", *names, help=draw(st.text(max_size=5))), sets


@given(
    declarations(["counter", "gauge"]),
    st.lists(st.tuples(st.integers(0, 3), numbers, st.booleans())),
)
def test_values_are_written_as_prometheus_client_does(
    declared: tuple[MetricDefinition, list[tuple[str, ...]]], writes: list[tuple[int, float, bool]]
) -> None:
    metric, sets = declared
    table = ValueTable(metric, limiter())
    model: dict[tuple[str, ...], float] = {}
    for number, value, look in writes:
        labels = sets[number % len(sets)]
        table.series(*labels).value = value
        model[written(labels)] = float(value)
        if look:  # so that text is kept from here
            table.family().text(number % 2 == 0)
    expected = metric.family(metric(value, *labels) for labels, value in model.items())
    assert_same_text(table.family(), expected)


@given(
    declarations(["histogram"]),
    st.lists(st.floats(0, 1e7, exclude_max=True), unique=True, max_size=5).map(sorted),
    st.lists(
        st.tuples(
            st.integers(0, 3),
            seconds,
            st.sampled_from([0, 1, 999_999, 10**6, 10**17]),
            st.booleans(),
        )
    ),
)
def test_histograms_are_written_as_prometheus_client_does(
    declared: tuple[MetricDefinition, list[tuple[str, ...]]],
    bounds: list[float],
    observations: list[tuple[int, float, int, bool]],
) -> None:
    metric, sets = declared
    table = HistogramTable(metric, limiter(), lambda _: bounds)
    model: dict[tuple[str, ...], list[float]] = {}
    for number, value, more, look in observations:
        labels = sets[number % len(sets)]
        row = table.series(*labels)
        cells = model.setdefault(written(labels), [0] * (len(bounds) + 1) + [0.0])
        row.observe(value)
        where = next((place for place, bound in enumerate(bounds) if value <= bound), len(bounds))
        row.counts[where] += more
        cells[where] += 1 + more
        cells[-1] += value
        if look:
            table.family().text(number % 2 == 0)
    expected = metric.family()
    assert isinstance(expected, HistogramMetricFamily)
    les = [floatToGoString(bound) for bound in (*bounds, math.inf)]  # type: ignore[no-untyped-call]
    for labels, (*counts, total) in model.items():
        expected.add_metric(
            labels, list(zip(les, map(float, accumulate(counts)), strict=True)), total
        )
    assert_same_text(table.family(), expected)


def test_a_histogram_without_observations_shows_zeros() -> None:
    table = HistogramTable(RUNTIME, limiter(), lambda _: BUCKETS)
    table.series("a", "q")
    lines = [line for line in table.family().text(False).splitlines() if not line.startswith("#")]
    assert len(lines) == len(BUCKETS) + 3
    assert all(line.endswith(" 0.0") for line in lines)


def test_a_task_may_have_its_own_buckets() -> None:
    table = HistogramTable(
        RUNTIME, limiter(), lambda labels: (60.0,) if labels[0] == "slow" else BUCKETS
    )
    table.series("slow", "q").observe(60)
    table.series("fast", "q").observe(60)
    text = table.family().text(False)
    assert 'bucket{le="60.0",queue="q",task="slow"} 1.0' in text
    assert 'bucket{le="2.5",queue="q",task="fast"} 0.0' in text


def test_an_unchanged_series_keeps_its_text() -> None:
    table = ValueTable(SENT, limiter())
    rows = [table.series("a", "q"), table.series("b", "q")]
    table.family().text(False)
    before = [row.text for row in rows]
    rows[1].value += 1
    table.family().text(True)
    assert rows[0].text is before[0]
    assert rows[1].text == b'celery_task_sent_total{queue="q",task="b"} 1.0\n'


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0), (-1.0,), (math.inf,), (math.nan,)])
def test_invalid_buckets_are_rejected(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="buckets have to ascend"):
        HistogramTable(RUNTIME, limiter(), lambda _: bounds).series("a", "q")


def test_invalid_declarations_are_rejected() -> None:
    for metric in (
        EVENTS.gauge("a-b", help=""),
        EVENTS.gauge("a\n", help=""),
        EVENTS.gauge("a", "__b", help=""),
    ):
        with pytest.raises(ValueError, match="cannot be named"):
            ValueTable(metric, limiter())
    with pytest.raises(ValueError, match="cannot hold"):
        ValueTable(RUNTIME, limiter())
    with pytest.raises(ValueError, match="cannot hold"):
        HistogramTable(SENT, limiter(), lambda _: BUCKETS)
    with pytest.raises(ValueError, match="label le"):
        HistogramTable(EVENTS.histogram("a", "le", help=""), limiter(), lambda _: BUCKETS)
    with pytest.raises(ValueError, match="takes the labels"):
        ValueTable(SENT, limiter()).series("a")


def test_removing_a_removed_series_again_keeps_its_successor() -> None:
    table = ValueTable(SENT, limiter())
    old = table.series("a", "q")
    table.remove(old)
    new = table.series("a", "q")
    table.remove(old)
    assert table.series("a", "q") is new
    table.remove(new)
    assert len(table) == 0


class CountedMeanwhile(ValueTable):
    """Updates each series between its copy and its encoding."""

    def _encode(self, copies: Iterable[Copy[ValueSeries]]) -> None:
        copies = list(copies)
        for row, _, _ in copies:
            row.value += 1
        super()._encode(copies)


def test_an_update_during_encoding_is_in_the_next_text() -> None:
    table = CountedMeanwhile(SENT, limiter())
    table.series("a", "q")
    assert [table.family().text(False).split()[-1] for _ in range(3)] == ["0.0", "1.0", "2.0"]


class LockWatcher(ValueTable):
    """Fails when it encodes under the lock of the event thread."""

    def _encode(self, copies: Iterable[Copy[ValueSeries]]) -> None:
        assert not self._limiter.update_lock.locked()
        super()._encode(copies)


def test_text_is_not_encoded_under_the_update_lock() -> None:
    table = LockWatcher(SENT, limiter())
    table.series("a", "q")
    assert "} 0.0\n" in table.family().text(False)


@pytest.fixture
def eager_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Shop:
    """A counter and a histogram, updated by one thread and read by others."""

    def __init__(self) -> None:
        self.limiter = limiter()
        self.sent = ValueTable(SENT, self.limiter)
        self.runtime = HistogramTable(RUNTIME, self.limiter, lambda _: BUCKETS)
        self.stopping = threading.Event()
        self.faults: list[str] = []

    def count(self) -> None:
        """Count until stopped; each observation is 0.5 s."""
        for number in count():
            if self.stopping.is_set():
                return
            with self.limiter.update_lock:
                for task in range(number % 50, number % 50 + 50):
                    self.sent.series(f"task{task}", "q").value += 1
                    self.runtime.series(f"task{task}", "q").observe(0.5)

    def look(self) -> None:
        """Record values that decreased, and inconsistent histograms."""
        seen: Counter[str] = Counter()
        for _ in range(30):
            for sample in parsed(self.sent).samples:
                if sample.value < seen[sample.labels["task"]]:
                    self.faults.append(f"{sample} decreased")
                seen[sample.labels["task"]] = int(sample.value)
            self.faults.extend(inconsistent(parsed(self.runtime)))


@pytest.mark.usefixtures("eager_switches")
def test_scrapes_while_events_are_counted() -> None:
    shop = Shop()
    counting = threading.Thread(target=shop.count)
    looking = [threading.Thread(target=shop.look) for _ in range(3)]
    for thread in (counting, *looking):
        thread.start()
    for thread in looking:
        thread.join()
    shop.stopping.set()
    counting.join()
    assert shop.faults == []
    for table in (shop.sent, shop.runtime):
        plain = table.metric.family()
        plain.samples = table.family().samples
        assert_same_text(table.family(), plain)


def parsed(table: ValueTable | HistogramTable) -> Metric:
    (family,) = text_string_to_metric_families(table.family().text(False))
    return family


def inconsistent(family: Metric) -> Iterator[str]:
    """Yield histograms whose counts and sum contradict each other."""
    parts = {
        (sample.labels["task"], sample.name, sample.labels.get("le")): sample.value
        for sample in family.samples
    }
    for task in {sample.labels["task"] for sample in family.samples}:
        total = parts[task, f"{RUNTIME.name}_sum", None]
        counts = [parts[task, f"{RUNTIME.name}_bucket", le] for le in ("1.0", "2.5", "+Inf")]
        if {*counts, parts[task, f"{RUNTIME.name}_count", None]} != {total * 2}:
            yield f"{task}: {counts} and {total}"


class Interrupted(ValueTable):
    """Lets another thread scrape the table between copying values and encoding them."""

    interrupt: Callable[[], None] | None = None

    def _encode(self, copies: Iterable[Copy[ValueSeries]]) -> None:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()
        super()._encode(copies)


def test_concurrent_scrapes_encode_one_after_the_other() -> None:
    """Else the older of two copies could be cached as the text of the newer value."""
    table = Interrupted(SENT, limiter())
    series = table.series("a", "q")
    texts: list[str] = []
    other = threading.Thread(target=lambda: texts.append(table.family().text(False)))
    waited: list[bool] = []

    def scrape_meanwhile() -> None:
        series.value += 1
        other.start()
        other.join(0.2)
        waited.append(other.is_alive())

    table.interrupt = scrape_meanwhile
    assert table.family().text(False).split()[-1] == "0.0"
    other.join()
    assert waited == [True]
    assert [text.split()[-1] for text in texts] == ["1.0"]
