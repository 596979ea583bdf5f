"""The text of metric families, byte for byte what prometheus_client would write.

Families that can write themselves (`TextFamily`) do so where their text is the one that was asked for; everything else,
and every decision about formats and escaping, is prometheus_client's.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache, partial
from itertools import accumulate, groupby, pairwise
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample as MetricSample
from prometheus_client.utils import floatToGoString

from celery_vitals.metrics.base import MetricDefinition, Sample

Encoder = Callable[[Collector], bytes]
Failed = Callable[[Metric, Exception], object]
_Write = Callable[[Sequence[Metric]], list[bytes]]

# Schemes that leave the names of a TextFamily alone.
_HARMLESS_ESCAPING = ("underscores", "allow-utf-8")
# From here on prometheus_client writes exponents.
_LARGE = 1e6
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class TextFamily(Metric):
    """A metric family that knows its own text.  Its names are such that no scheme escapes them."""

    def __init__(self, declared: MetricDefinition) -> None:
        plain = declared.family()
        super().__init__(plain.name, plain.documentation, plain.type)
        self._samples: list[MetricSample] | None = None

    @property
    def samples(self) -> list[MetricSample]:
        """The samples, as they were when this was first read."""
        if self._samples is None:
            self._samples = list(self.listed())
        return self._samples

    @samples.setter
    def samples(self, samples: list[MetricSample]) -> None:
        self._samples = samples

    @abstractmethod
    def listed(self) -> Iterable[MetricSample]:
        """The samples as they are now."""

    @abstractmethod
    def parts(self, openmetrics: bool) -> list[bytes]:
        """The text in parts, HELP and TYPE included, without `# EOF`: OpenMetrics 1.0, or text 0.0.4."""

    def text(self, openmetrics: bool) -> str:
        """All the parts."""
        return b"".join(self.parts(openmetrics)).decode()


class SampleFamily(TextFamily):
    """Samples of a declared metric, of one scrape."""

    def __init__(self, declared: MetricDefinition, samples: Collection[Sample]) -> None:
        super().__init__(declared)
        self._declared = declared
        self._given = samples

    def listed(self) -> Iterable[MetricSample]:
        """As prometheus_client has them."""
        return self._declared.family(self._given).samples

    def parts(self, openmetrics: bool) -> list[bytes]:
        """A line for each sample."""
        name, labels = self._declared.name, self._declared.labels
        lines = [
            f"{series(name, sorted(zip(labels, sample.labels, strict=True)))}{number(sample.value)}\n"
            for sample in self._given
        ]
        return [_head_of(self._declared, openmetrics), "".join(lines).encode()]


def generate(
    families: Iterable[Metric], encode: Encoder, failed: Failed | None = None
) -> list[bytes]:
    """What `encode`, an encoder of prometheus_client, would give for these families, in parts.

    A family that cannot be written is left out, and told to `failed` with the reason; without `failed` it raises.
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
    for knows_text, group in groupby(families, lambda family: isinstance(family, TextFamily)):
        parts += _write(
            own if knows_text and openmetrics is not None else ordinary, list(group), failed
        )
    return [*parts, ending]


def _write(write: _Write, families: Sequence[Metric], failed: Failed | None) -> list[bytes]:
    """All in one go; when that fails, one by one."""
    try:
        return write(families)
    except Exception as error:
        if failed is None:
            raise
        if len(families) > 1:
            return [part for family in families for part in _write(write, [family], failed)]
        failed(families[0], error)
        return []


def _is_openmetrics(encode: Encoder) -> bool | None:
    """Whether an encoder writes OpenMetrics 1.0; None when it writes neither that nor plain text 0.0.4."""
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
    """Families that are there already, in the shape that the encoders take."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def head(family: Metric, openmetrics: bool) -> bytes:
    """The HELP and TYPE lines of a family without samples."""
    encode: Encoder = openmetrics_exposition.generate_latest if openmetrics else generate_latest
    return encode(_Families([family])).removesuffix(encode(_Families(())))


@cache
def _head_of(declared: MetricDefinition, openmetrics: bool) -> bytes:
    return head(declared.family(), openmetrics)


def number(value: float) -> str:
    """A value as text."""
    value = float(value)
    return repr(value) if -_LARGE < value < _LARGE else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def pair(name: str, value: str) -> str:
    """One label."""
    return f'{name}="{value.translate(_ESCAPES)}"'


def series(name: str, labels: Sequence[tuple[str, str]]) -> str:
    """What stands before a value."""
    return f"{name}{{{','.join(pair(*label) for label in labels)}}} " if labels else f"{name} "


class HistogramFrame(NamedTuple):
    """The text around the numbers and bounds of a row of a histogram."""

    start: str
    end: str
    count_line: str
    sum_line: str

    @classmethod
    def of(cls, name: str, labels: Sequence[tuple[str, str]]) -> HistogramFrame:
        """For these labels, by name."""
        before = "".join(f"{pair(*label)}," for label in labels if label[0] < "le")
        after = "".join(f",{pair(*label)}" for label in labels if label[0] > "le")
        return cls(
            f"{name}_bucket{{{before}",
            f"{after}}} ",
            series(f"{name}_count", labels),
            series(f"{name}_sum", labels),
        )


class HistogramText:
    """The text of a row of a histogram, but for its labels and numbers: rows with the same bounds share one."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        if any(bound < 0 for bound in bounds) or not all(
            low < high for low, high in pairwise((*bounds, math.inf))
        ):
            raise ValueError(
                f"buckets have to ascend, from 0 or more to less than infinity: {bounds}"
            )
        self.bounds = bounds
        self.written = [number(bound) for bound in (*bounds, math.inf)]
        self._les = [pair("le", bound) for bound in self.written]

    def text(self, frame: HistogramFrame, counts: Sequence[int], total: float) -> str:
        """The lines of one row, from the counts of each bucket alone and the sum."""
        upto = list(accumulate(counts))
        small = upto[-1] < _LARGE
        pieces = [frame.start, "", frame.end, ""] * len(upto)
        pieces[1::4] = self._les
        pieces[3::4] = (
            [f"{count}.0\n" for count in upto]
            if small
            else [f"{number(count)}\n" for count in upto]
        )
        return f"{''.join(pieces)}{frame.count_line}{pieces[-1]}{frame.sum_line}{number(total)}\n"
