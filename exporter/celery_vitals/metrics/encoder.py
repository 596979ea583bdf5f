"""The text of metric families, byte for byte as prometheus_client encodes them.

Families that encode themselves (`TextFamily`) do so in text 0.0.4 and OpenMetrics 1.0; everything
else, and every decision about formats and escaping, is prometheus_client's.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample as MetricSample
from prometheus_client.utils import floatToGoString

from celery_vitals.metrics.base import MetricDefinition

Encoder = Callable[[Collector], bytes]
Failed = Callable[[Metric, Exception], object]
_Encode = Callable[[Sequence[Metric]], list[bytes]]

# Escaping schemes that leave the names of a TextFamily unchanged.
_HARMLESS_ESCAPING = ("underscores", "allow-utf-8")
# prometheus_client writes numbers from here on with an exponent.
_LARGE = 1e6
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class TextFamily(Metric):
    """A metric family that encodes itself.  No escaping scheme changes its names."""

    def __init__(self, declared: MetricDefinition) -> None:
        plain = declared.family()
        super().__init__(plain.name, plain.documentation, plain.type)
        self._samples: list[MetricSample] | None = None
        self.held_after = math.inf
        """Counters that were created after this time are encoded as 0 (metrics/births.py)."""

    @property
    def samples(self) -> list[MetricSample]:
        """The samples, as of the first access."""
        if self._samples is None:
            self._samples = list(self.current_samples())
        return self._samples

    @samples.setter
    def samples(self, samples: list[MetricSample]) -> None:
        self._samples = samples

    @abstractmethod
    def current_samples(self) -> Iterable[MetricSample]:
        """Return the samples as of now."""

    @abstractmethod
    def parts(self, openmetrics: bool) -> list[bytes]:
        """Return the text in parts, HELP and TYPE included, without `# EOF`.

        The format is OpenMetrics 1.0, or text 0.0.4.
        """

    def text(self, openmetrics: bool) -> str:
        """Return all parts as one text."""
        return b"".join(self.parts(openmetrics)).decode()


def generate(
    families: Iterable[Metric], encode: Encoder, failed: Failed | None = None
) -> list[bytes]:
    """Return, in parts, what `encode`, an encoder of prometheus_client, returns for these families.

    A family that cannot be encoded is left out and passed to `failed` with the exception; without
    `failed`, the exception is raised.
    """
    openmetrics = _is_openmetrics(encode)
    ending = encode(_Families(()))

    def ordinary(group: Sequence[Metric]) -> list[bytes]:
        return [encode(_Families(group)).removesuffix(ending)]

    def own(group: Sequence[Metric]) -> list[bytes]:
        return [
            part
            for family in group
            if isinstance(family, TextFamily)
            for part in family.parts(openmetrics is True)
        ]

    parts: list[bytes] = []
    for encodes_itself, group in groupby(families, lambda family: isinstance(family, TextFamily)):
        parts += _encode_group(
            own if encodes_itself and openmetrics is not None else ordinary, list(group), failed
        )
    return [*parts, ending]


def _encode_group(
    encode: _Encode, families: Sequence[Metric], failed: Failed | None
) -> list[bytes]:
    """Encode all families at once; when that fails, one by one."""
    try:
        return encode(families)
    except Exception as error:
        if failed is None:
            raise
        if len(families) > 1:
            return [part for family in families for part in _encode_group(encode, [family], failed)]
        failed(families[0], error)
        return []


def _is_openmetrics(encode: Encoder) -> bool | None:
    """Return whether an encoder writes OpenMetrics 1.0 or text 0.0.4; None for other formats."""
    options = encode.keywords if isinstance(encode, partial) else {}
    function = encode.func if isinstance(encode, partial) else encode
    if (
        options.get("escaping", "underscores") not in _HARMLESS_ESCAPING
        or options.get("version", "1.0.0") != "1.0.0"
    ):
        return None
    if function is openmetrics_exposition.generate_latest:
        return True
    return False if function is generate_latest else None


class _Families:
    """Existing families as a registry, which is what the encoders take."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def head(family: Metric, openmetrics: bool) -> bytes:
    """Return the HELP and TYPE lines of a family without samples."""
    encode: Encoder = openmetrics_exposition.generate_latest if openmetrics else generate_latest
    return encode(_Families([family])).removesuffix(encode(_Families(())))


def format_value(value: float) -> str:
    """Return a value as text."""
    value = float(value)
    return repr(value) if -_LARGE < value < _LARGE else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def label_pair(name: str, value: str) -> str:
    """Return one label as text."""
    return f'{name}="{value.translate(_ESCAPES)}"'


def series_prefix(name: str, labels: Sequence[tuple[str, str]]) -> str:
    """Return the part of a line before the value."""
    pairs = ",".join(label_pair(*label) for label in labels)
    return f"{name}{{{pairs}}} " if labels else f"{name} "


class HistogramLabels(NamedTuple):
    """The text around the counts and bounds of a histogram with certain labels."""

    start: str
    end: str
    count_line: str
    sum_line: str

    @classmethod
    def of(cls, name: str, labels: Sequence[tuple[str, str]]) -> HistogramLabels:
        """Return the text for these labels, which are in the order of their names."""
        before = "".join(f"{label_pair(*label)}," for label in labels if label[0] < "le")
        after = "".join(f",{label_pair(*label)}" for label in labels if label[0] > "le")
        return cls(
            f"{name}_bucket{{{before}",
            f"{after}}} ",
            series_prefix(f"{name}_count", labels),
            series_prefix(f"{name}_sum", labels),
        )


class HistogramBuckets:
    """The buckets of a histogram and the text of their bounds; shared by series of equal bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        if any(bound < 0 for bound in bounds) or not all(
            low < high for low, high in pairwise((*bounds, math.inf))
        ):
            raise ValueError(
                f"buckets have to ascend, from 0 or more to less than infinity: {bounds}"
            )
        self.bounds = bounds
        self.bound_texts = [format_value(bound) for bound in (*bounds, math.inf)]
        self._bound_labels = [label_pair("le", bound) for bound in self.bound_texts]

    def text(self, labels: HistogramLabels, counts: Sequence[int], total: float) -> str:
        """Return the lines of one histogram from the counts of each bucket alone and the sum."""
        cumulative = list(accumulate(counts))
        small = cumulative[-1] < _LARGE
        pieces = [labels.start, "", labels.end, ""] * len(cumulative)
        pieces[1::4] = self._bound_labels
        pieces[3::4] = (
            [f"{count}.0\n" for count in cumulative]
            if small
            else [f"{format_value(count)}\n" for count in cumulative]
        )
        sum_line = f"{labels.sum_line}{format_value(total)}\n"
        return f"{''.join(pieces)}{labels.count_line}{pieces[-1]}{sum_line}"
