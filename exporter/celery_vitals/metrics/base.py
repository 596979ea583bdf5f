"""What a metric of this exporter is: its declaration, its samples, and the families they form."""

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
    """Text from outside, fit for a label: JSON can carry lone surrogates, which UTF-8 cannot."""
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


@dataclass(frozen=True)
class MetricDefinition:
    """A metric as declared.  Calling it with a value and its labels makes a `Sample`."""

    collector: str
    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    def __call__(self, value: float, *labels: str) -> Sample:
        """One sample of this metric."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} takes the labels {self.labels}, not {labels}")
        return Sample(self, labels, value)

    def family(self, samples: Iterable[Sample] = ()) -> Metric:
        """These samples as a metric family of prometheus_client.  A histogram's come from its table, not from here."""
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


@dataclass(frozen=True)
class MetricGroup:
    """The metrics of one collector."""

    collector: str

    def gauge(self, name: str, *labels: str, help: str) -> MetricDefinition:
        """Declare a value that goes up and down."""
        return MetricDefinition(self.collector, name, Kind.GAUGE, labels, help)

    def counter(self, name: str, *labels: str, help: str) -> MetricDefinition:
        """Declare a value that only grows, named ..._total."""
        return MetricDefinition(self.collector, name, Kind.COUNTER, labels, help)

    def histogram(self, name: str, *labels: str, help: str) -> MetricDefinition:
        """Declare a distribution; its buckets are its table's business."""
        return MetricDefinition(self.collector, name, Kind.HISTOGRAM, labels, help)

    def info(self, name: str, *labels: str, help: str) -> MetricDefinition:
        """Declare a set of facts, named ..._info, whose value is always 1."""
        return MetricDefinition(self.collector, name, Kind.INFO, labels, help)
