"""Metric definitions, samples, and the metric families of samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)


def label_text(value: object) -> str:
    """Return text that UTF-8 can encode: JSON can carry lone surrogates."""
    return str(value).encode("utf-8", "replace").decode()


class Kind(str, Enum):
    """The type of a metric in the exposition."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


_FAMILIES = {
    Kind.GAUGE: GaugeMetricFamily,
    Kind.COUNTER: CounterMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


class Sample(NamedTuple):
    """One value of one series; `labels` in the order of the metric's label names."""

    metric: MetricDefinition
    labels: tuple[str, ...]
    value: float


# Half the time of calling `Sample`, of which a scrape creates thousands.
_new_sample = tuple.__new__


@dataclass(frozen=True, eq=False)
class MetricDefinition:
    """The definition of a metric.  Calling it with a value and labels returns a `Sample`.

    Hashed by identity: every sample of a scrape is grouped by its definition.
    """

    collector: str
    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str
    counted: bool = False
    """Whether the exporter counts it, from 0 on; other counters are read from their source."""

    def __call__(self, value: float, *labels: str) -> Sample:
        """Return a sample of this metric."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, not {labels}")
        return _new_sample(Sample, (self, labels, value))

    def family(self, samples: Iterable[Sample] = ()) -> Metric:
        """Return these samples as a metric family of prometheus_client.

        The samples of a histogram come from its table instead.
        """
        if self.kind is Kind.INFO:
            info = InfoMetricFamily(self.name.removesuffix("_info"), self.help, labels=())
            for sample in samples:
                info.add_metric((), dict(zip(self.labels, sample.labels, strict=True)))
            return info
        family: Metric = _FAMILIES[self.kind](self.name, self.help, labels=self.labels)
        for sample in samples:
            family.add_sample(
                self.name, dict(zip(self.labels, sample.labels, strict=True)), sample.value
            )
        return family


class MetricGroup:
    """The metrics of one collector: `definitions`, in the order of their declaration."""

    def __init__(self, collector: str) -> None:
        self.collector = collector
        self.definitions: list[MetricDefinition] = []

    def gauge(self, name: str, *labels: str, help: str) -> MetricDefinition:
        """Declare a value that can go up and down."""
        return self._declare(name, Kind.GAUGE, labels, help)

    def counter(self, name: str, *labels: str, help: str, counted: bool = True) -> MetricDefinition:
        """Declare a value that only increases, named ..._total.

        `counted` is False for a value that another program counts.
        """
        return self._declare(name, Kind.COUNTER, labels, help, counted)

    def histogram(self, name: str, *labels: str, help: str) -> MetricDefinition:
        """Declare a distribution; its table defines the buckets."""
        return self._declare(name, Kind.HISTOGRAM, labels, help, counted=True)

    def info(self, name: str, *labels: str, help: str) -> MetricDefinition:
        """Declare an info metric, named ..._info, whose value is always 1."""
        return self._declare(name, Kind.INFO, labels, help)

    def _declare(
        self, name: str, kind: Kind, labels: tuple[str, ...], help: str, counted: bool = False
    ) -> MetricDefinition:
        definition = MetricDefinition(self.collector, name, kind, labels, help, counted)
        self.definitions.append(definition)
        return definition
