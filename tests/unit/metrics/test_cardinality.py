"""Cardinality limits: label values and series over a limit are aggregated as `_other`."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.metrics.base import MetricGroup
from celery_vitals.metrics.cardinality import OTHER, CardinalityLimiter, FairLock
from celery_vitals.metrics.tables import HistogramTable, ValueTable

EVENTS = MetricGroup("events")
SENT = EVENTS.counter("celery_task_sent_total", "task", "queue", help="Tasks sent.")
FAILED = EVENTS.counter(
    "celery_task_failed_total", "task", "queue", "exception", help="Tasks failed."
)
RUNTIME = EVENTS.histogram("celery_task_runtime_seconds", "task", "queue", help="Runtimes.")
BUCKETS = (0.1, 1.0, 2.5)

# Lone surrogates among them, which become question marks.
names = st.sampled_from(["a", "b", "c", "?", "\ud800", "\udfff", OTHER]) | st.text(max_size=2)


def limiter(caps: dict[str, int], series: int = 10_000) -> CardinalityLimiter:
    return CardinalityLimiter(caps, series, threading.Lock())


def test_a_value_over_its_label_limit_is_other_in_every_table() -> None:
    shared = limiter({"task": 2})
    sent, failed = ValueTable(SENT, shared), ValueTable(FAILED, shared)
    sent.series("a", "q")
    failed.series("b", "q", "ValueError")
    assert sent.series("c", "q").labels == (OTHER, "q")
    assert failed.series("c", "r", "KeyError").labels == (OTHER, "r", "KeyError")
    assert failed.series("a", "q", "KeyError").labels == ("a", "q", "KeyError")
    assert sent.series("c", "q") is sent.series("d", "q")
    assert dict(shared.aggregated) == {SENT.name: 3, FAILED.name: 1}


def test_over_the_series_limit_all_limited_labels_are_other() -> None:
    shared = limiter({"task": 10, "queue": 10}, series=8)
    runtime, failed = HistogramTable(RUNTIME, shared, lambda _: BUCKETS), ValueTable(FAILED, shared)
    known = runtime.series("a", "q")  # six series
    failed.series("a", "q", "ValueError")
    assert runtime.series("b", "q").labels == (OTHER, OTHER)
    assert runtime.series("a", "q") is known
    assert failed.series("b", "q", "KeyError").labels == (OTHER, OTHER, "KeyError")
    assert dict(shared.aggregated) == {RUNTIME.name: 1, FAILED.name: 1}
    assert shared.series_count == 6 + 1 + 6 + 1
    runtime.clear()
    assert failed.series("b", "q", "KeyError").labels == ("b", "q", "KeyError")


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    shared = limiter({"task": 1})
    table = ValueTable(SENT, shared)
    row = table.series("a\udfff", "q")
    assert row.labels == ("a?", "q")
    assert table.series("a?", "q") is table.series("a\ud800", "q") is row
    assert shared.aggregated == {}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["sent", "runtime"]), names, names),
            st.tuples(st.just("remove"), names, names),
        )
    ),
    st.integers(0, 3),
    st.integers(0, 20),
)
def test_limits_hold_and_totals_stay_right(
    events: list[tuple[str, str, str]], cap: int, series: int
) -> None:
    shared = limiter({"task": cap}, series)
    sent, runtime = ValueTable(SENT, shared), HistogramTable(RUNTIME, shared, lambda _: BUCKETS)
    expected: Counter[str] = Counter()
    for kind, task, queue in events:
        if kind == "sent":
            sent.series(task, queue).value += 1
        elif kind == "runtime":
            runtime.series(task, queue).observe(1)
        else:
            row = sent.series(task, queue)
            expected["sent"] -= int(row.value)
            sent.remove(row)
            sent.remove(row)
        expected[kind] += 1
    samples = [*sent.family().samples, *runtime.family().samples]
    tasks = {sample.labels["task"] for sample in samples}
    assert len(tasks - {OTHER}) <= cap
    assert len(samples) == shared.series_count
    others = sum(1 for sample in samples if sample.labels["task"] == OTHER)
    assert len(samples) <= series + others
    assert sum(sample.value for sample in samples if sample.name == SENT.name) == expected["sent"]
    assert (
        sum(sample.value for sample in samples if sample.name.endswith("_count"))
        == expected["runtime"]
    )
    sent.clear()
    runtime.clear()
    assert shared.series_count == 0
    if cap and series:
        assert sent.series("new", "q").labels == ("new", "q")


def test_removed_series_free_their_label_values() -> None:
    shared = limiter({"task": 1})
    sent, runtime = ValueTable(SENT, shared), HistogramTable(RUNTIME, shared, lambda _: BUCKETS)
    row, timer = sent.series("a", "q"), runtime.series("a", "q")
    sent.remove(row)
    assert sent.series("b", "q").labels == (OTHER, "q")  # the histogram has the name still
    runtime.remove(timer)
    assert sent.series("b", "q").labels == ("b", "q")
    assert (len(runtime), shared.series_count) == (0, 2)


def test_a_waiting_thread_acquires_the_lock_next() -> None:
    lock = FairLock(threading.Lock())
    for _ in range(10):
        order: list[str] = []

        def wait(order: list[str] = order) -> None:
            with lock:
                order.append("who waited")

        thread = threading.Thread(target=wait)
        with lock:
            thread.start()
            time.sleep(0.02)
        with lock:
            order.append("who had it")
        thread.join()
        assert order == ["who waited", "who had it"]


def test_the_lock_is_released_after_an_error() -> None:
    lock = FairLock(threading.Lock())
    for _ in range(2):
        with suppress(KeyError), lock:
            assert lock.locked()
            raise KeyError
    assert not lock.locked()


def test_series_up_to_the_limit_inclusive_are_accepted() -> None:
    shared = limiter({"task": 10, "queue": 10}, series=8)
    HistogramTable(RUNTIME, shared, lambda _: BUCKETS).series("a", "q")  # six series
    sent = ValueTable(SENT, shared)
    labels = [sent.series(task, "q").labels[0] for task in ("a", "b", "c")]
    assert labels == ["a", "b", OTHER]
    assert not shared.can_add(0)  # the series of _other is above the limit


def test_number_of_aggregated_labels_is_a_copy() -> None:
    shared = limiter({"task": 0})
    sent = ValueTable(SENT, shared)
    sent.series("a", "q")
    before = shared.aggregated
    sent.series("b", "q")
    assert (before, shared.aggregated) == ({SENT.name: 1}, {SENT.name: 2})
