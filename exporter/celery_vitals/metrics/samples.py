"""Probed samples: grouped into families, with their text cached between scrapes.

Most samples have the same labels at every scrape, and many the same value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

from prometheus_client.samples import Sample as MetricSample

from celery_vitals.metrics.base import MetricDefinition, Sample
from celery_vitals.metrics.births import Births
from celery_vitals.metrics.encoder import TextFamily, format_value, head, series_prefix

Values = Mapping[tuple[str, ...], float]
"""The values of one metric by their labels."""
# So many series of one counter are remembered after the last of their samples.
_MANY_BIRTHS = 10_000


class _Line(NamedTuple):
    """The line of one series."""

    value: float
    text: str
    prefix_length: int
    """Length of the part before the value."""


class LineCache:
    """The lines of one metric in the last scrape that contained it.  Safe for several threads."""

    def __init__(self, definition: MetricDefinition) -> None:
        self._name = definition.name
        self._labels = definition.labels
        self._lines: dict[tuple[str, ...], _Line] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def encode(self, values: Values) -> bytes:
        """Return the lines of these values; series that are not among them leave the cache."""
        known, lines = self._lines, {}
        for labels, value in values.items():
            line = known.get(labels)
            if line is None:
                line = self._renew(series_prefix(self._name, self._by_name(labels)), value)
            # Equal numbers have equal text, except 0.0 and -0.0.
            elif value is not line.value and (value != line.value or not value):
                line = self._renew(line.text[: line.prefix_length], value)
            lines[labels] = line
        self._lines = lines
        return "".join([line.text for line in lines.values()]).encode()

    def _renew(self, prefix: str, value: float) -> _Line:
        return _Line(value, f"{prefix}{format_value(value)}\n", len(prefix))

    def _by_name(self, labels: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return names and values in prometheus_client's order."""
        return sorted(zip(self._labels, labels, strict=True))


class CounterBirths:
    """When each series of one counter first had a sample.

    A series that returns is not new: its samples are absent while a collector fails.  Safe for
    several threads.
    """

    def __init__(self, metric: str, births: Births) -> None:
        self._metric = metric
        self._births = births
        self._born: dict[tuple[str, ...], float] = {}
        self._last = -math.inf

    def record(self, values: Values) -> None:
        """Record the series that are new."""
        new = values.keys() - self._born.keys()
        if not new:
            return
        self._last = now = self._births.now()
        if len(self._born) > _MANY_BIRTHS:
            for labels in [one for one in list(self._born) if one not in values]:
                self._born.pop(labels, None)
        for labels in new:
            seen = (self._metric, labels) in self._births.seen
            self._born.setdefault(labels, -math.inf if seen else now)

    def visible(self, values: Values, held_after: float) -> Values:
        """Return the values, with 0 for series that were new after this time."""
        if self._last <= held_after:
            return values
        return {
            labels: 0.0 if self._born.get(labels, -math.inf) > held_after else value
            for labels, value in values.items()
        }


class SampleFamily(TextFamily):
    """The samples of one metric in one scrape."""

    def __init__(
        self,
        definition: MetricDefinition,
        values: Values,
        lines: LineCache,
        births: CounterBirths | None,
    ) -> None:
        super().__init__(definition)
        self._definition = definition
        self._values = values
        self._lines = lines
        self._births = births

    def _visible(self) -> Values:
        return self._births.visible(self._values, self.held_after) if self._births else self._values

    def current_samples(self) -> Iterable[MetricSample]:
        """Return the samples as prometheus_client represents them."""
        samples = (Sample(self._definition, *pair) for pair in self._visible().items())
        return self._definition.family(samples).samples

    def parts(self, openmetrics: bool) -> list[bytes]:
        """Return HELP and TYPE, and a line per sample."""
        return [_head_of(self._definition, openmetrics), self._lines.encode(self._visible())]


class SampleEncoder:
    """The families of samples, in the order of `definitions`, and the text cached for them."""

    def __init__(
        self, definitions: Sequence[MetricDefinition], births: Births | None = None
    ) -> None:
        births = births or Births()
        self._births = {one: CounterBirths(one.name, births) for one in definitions if one.counted}
        self._caches = {definition: LineCache(definition) for definition in definitions}

    def families(self, samples: Iterable[Sample]) -> Iterator[SampleFamily]:
        """Yield the families of these samples.

        A metric without a sample has no family.  Of several samples of one series the first
        counts: the broker's value before the one derived from events.
        """
        values: dict[MetricDefinition, dict[tuple[str, ...], float]] = {}
        for metric, labels, value in samples:
            try:
                values[metric].setdefault(labels, value)
            except KeyError:
                values[metric] = {labels: value}
        for definition, cached in self._caches.items():
            if definition in values:
                births = self._births.get(definition)
                if births is not None:
                    births.record(values[definition])
                yield SampleFamily(definition, values[definition], cached, births)


@cache
def _head_of(definition: MetricDefinition, openmetrics: bool) -> bytes:
    return head(definition.family(), openmetrics)
