"""What the request's headers ask for: format, compression, time."""

from __future__ import annotations

import math

from prometheus_client.exposition import choose_encoder

from celery_vitals.metrics.encoder import Encoder

# A scrape interval of an hour is unheard of; without a limit, one header could occupy a scrape for ever.
_LONGEST_TIMEOUT = 3600.0
_SHORTEST_BUDGET = 0.1


def budget(header: str | None, default: float, offset: float) -> float:
    """Seconds a scrape may take.

    `header` is X-Prometheus-Scrape-Timeout-Seconds; the answer needs `offset` of it for its way back.  Without the
    header, or with one that is not a positive number, it is `default`.
    """
    timeout = _positive(header)
    if timeout is None:
        return default
    return max(_SHORTEST_BUDGET, min(timeout, _LONGEST_TIMEOUT) - offset)


def _positive(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def encoder(accept: str) -> tuple[Encoder, str]:
    """The encoder and the content type for an Accept header; text 0.0.4 when the header makes no sense."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version such as "x.y"
        return choose_encoder("")


def accepts_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header allows gzip, and does not prefer the plain text."""
    weights = dict(_weighed(part) for part in header.lower().split(",") if part.strip())
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def _weighed(part: str) -> tuple[str, float]:
    """A coding and its q-value, from `gzip;q=0.5`.  A q-value that is no number counts as 0: not wanted."""
    coding, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return coding, float(value)
            except ValueError:
                return coding, 0.0
    return coding, 1.0
