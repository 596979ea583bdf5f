"""The text of families equals that of prometheus_client, byte for byte."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.utils import floatToGoString

from celery_vitals.metrics.base import MetricGroup, Sample
from celery_vitals.metrics.cardinality import CardinalityLimiter
from celery_vitals.metrics.encoder import format_value, generate
from celery_vitals.metrics.samples import SampleEncoder
from celery_vitals.metrics.tables import HistogramTable, TableFamily, ValueTable

# What Prometheus 3 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1"
    ";q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
FROM_TABLES = [
    "",
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text",
    "application/openmetrics-text;version=1.0.0",
    "application/openmetrics-text;version=1.0.0;escaping=underscores",
    PROMETHEUS,
]
FROM_PROMETHEUS_CLIENT = [
    "text/plain;version=1.0.0;escaping=dots",
    "text/plain;version=1.0.0;escaping=values",
    "application/openmetrics-text;version=1.0.0;escaping=values",
    "application/openmetrics-text;version=2.0.0;escaping=underscores",
]
values = st.text(max_size=6)
numbers = st.floats() | st.integers(-(2**70), 2**70)


class Families:
    def __init__(self, families: Sequence[Metric]) -> None:
        self.families = families

    def collect(self) -> Sequence[Metric]:
        return self.families


class Spy(TableFamily):
    """Records whether its own encoding was used."""

    asked = False

    def parts(self, openmetrics: bool) -> list[bytes]:
        self.asked = True
        return super().parts(openmetrics)


class Broken(TableFamily):
    def parts(self, openmetrics: bool) -> list[bytes]:
        raise RuntimeError("no text")


def table(name: str = "celery_task_sent_total") -> ValueTable:
    metric = MetricGroup("events").counter(name, "task", help='Sent \\ "tasks"\nand others.')
    return ValueTable(metric, CardinalityLimiter({}, 100, threading.Lock()))


def gauge(name: str, value: object) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, "A gauge.")
    family.add_metric([], value)  # type: ignore[arg-type]
    return family


@given(numbers)
def test_numbers_equal_prometheus_client(value: float) -> None:
    assert format_value(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "value", [0.0, -0.0, 999999.0, 999999.9, 1e6, 1234567.0, -1e6, 1e16, 1e21, math.inf, -math.inf]
)
def test_numbers_at_the_edges_equal_prometheus_client(value: float) -> None:
    for near in (value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf)):
        assert format_value(near) == floatToGoString(near)  # type: ignore[no-untyped-call]


def counter_family(value: str, amount: float) -> Metric:
    family = CounterMetricFamily("a.dotted_counter", 'Some "help"\n\\.', labels=["a b", "b"])
    family.add_metric([value, ""], amount, created=12.5)
    return family


def histogram_family(value: str, amount: float) -> Metric:
    family = HistogramMetricFamily("an_ordinary_histogram", "Help.", labels=["z"])
    family.add_metric([value], [("0.5", 1.0), ("+Inf", 2.0)], amount)
    return family


def gauge_family(value: str, amount: float) -> Metric:
    family = GaugeMetricFamily("a_gauge", value, labels=["task"])
    family.add_metric([value], amount, timestamp=1.5)
    return family


def info_family(value: str, amount: float) -> Metric:
    return InfoMetricFamily("facts", "Facts.", {"fact": value})


def table_family(value: str, amount: float) -> Metric:
    own = table()
    own.series(value).value = amount
    return own.family()


def table_histogram(value: str, amount: float) -> Metric:
    metric = MetricGroup("events").histogram(
        "celery_task_runtime_seconds", "task", help="Runtimes."
    )
    own = HistogramTable(
        metric, CardinalityLimiter({}, 100, threading.Lock()), lambda _: (0.5, 1.0)
    )
    own.series(value).observe(amount)
    return own.family()


def sample_family(*samples: Sample) -> Metric:
    (family,) = SampleEncoder([samples[0].metric]).families(samples)
    return family


def sampled_gauge(value: str, amount: float) -> Metric:
    metric = MetricGroup("workers").gauge(
        "celery_worker_state", "worker", "state", help='A "state"\\of.'
    )
    return sample_family(metric(amount, value, "up"), metric(True, "b", value))


def sampled_counter(value: str, amount: float) -> Metric:
    metric = MetricGroup("workers").counter(
        "celery_worker_restarts_total", "worker", help="Restarts."
    )
    return sample_family(metric(amount, value))


def sampled_info(value: str, amount: float) -> Metric:
    metric = MetricGroup("workers").info("celery_worker_info", "worker", "pool", help="Facts.")
    return sample_family(metric(1, value, "solo"))


MAKERS: list[Callable[[str, float], Metric]] = [
    counter_family,
    histogram_family,
    gauge_family,
    info_family,
    table_family,
    table_histogram,
    sampled_gauge,
    sampled_counter,
    sampled_info,
]


@given(
    st.lists(st.tuples(st.sampled_from(MAKERS), values, numbers)),
    st.sampled_from(FROM_TABLES + FROM_PROMETHEUS_CLIENT),
)
def test_any_mixture_of_families_equals_prometheus_client(
    recipe: list[tuple[Callable[[str, float], Metric], str, float]], accept: str
) -> None:
    encode, _ = choose_encoder(accept)
    families = [make(value, amount) for make, value, amount in recipe]
    assert b"".join(generate(families, encode)) == encode(Families(families))


@pytest.mark.parametrize("accept", FROM_TABLES)
def test_tables_encode_themselves_in_the_formats_of_prometheus(accept: str) -> None:
    family = Spy(table())
    generate([family], choose_encoder(accept)[0])
    assert family.asked


@pytest.mark.parametrize("accept", FROM_PROMETHEUS_CLIENT)
def test_other_formats_are_encoded_by_prometheus_client(accept: str) -> None:
    encode, kind = choose_encoder(accept)
    if not any(word in kind for word in ("dots", "values", "version=2")):
        pytest.skip("this version of prometheus_client does not know that format")
    family = Spy(table())
    generate([family], encode)
    assert not family.asked


@pytest.mark.parametrize("accept", ["", PROMETHEUS])
def test_a_family_that_cannot_be_encoded_is_left_out(accept: str) -> None:
    encode, _ = choose_encoder(accept)
    good: list[Metric] = [
        gauge("one", 1),
        table().family(),
        table("celery_task_other_total").family(),
        gauge("two", 2),
    ]
    failed: list[tuple[str, str]] = []
    text = generate(
        [
            good[0],
            gauge("odd", "word"),
            good[1],
            Broken(table()),
            good[2],
            gauge("odder", "words"),
            good[3],
        ],
        encode,
        lambda family, error: failed.append((family.name, type(error).__name__)),
    )
    assert b"".join(text) == b"".join(generate(good, encode))
    assert failed == [
        ("odd", "ValueError"),
        ("celery_task_sent", "RuntimeError"),
        ("odder", "ValueError"),
    ]


def test_raises_without_a_callback_for_failures() -> None:
    with pytest.raises(RuntimeError, match="no text"):
        generate([Broken(table())], generate_latest)


def test_an_unknown_encoder_encodes_every_family() -> None:
    family = Spy(table())
    assert (
        b"".join(generate([family], lambda registry: b"%d" % len(list(registry.collect()))))
        == b"10"
    )
    assert not family.asked


def test_families_of_tables_can_be_registered_elsewhere() -> None:
    own = table()
    own.series("a").value = 3
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Families([own.family()]))
    assert registry.get_sample_value("celery_task_sent_total", {"task": "a"}) == 3
    restricted = registry.restricted_registry(["celery_task_sent_total"])
    assert b'celery_task_sent_total{task="a"} 3.0\n' in generate_latest(restricted)
