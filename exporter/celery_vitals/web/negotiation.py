"""Negotiation of format, compression and timeout from the headers of a request."""

from __future__ import annotations

import math

from prometheus_client.exposition import choose_encoder

from celery_vitals.metrics.encoder import Encoder

# Without a limit, one header could occupy a scrape for ever.
_LONGEST_TIMEOUT = 3600.0
_SHORTEST_BUDGET = 0.1


def budget(header: str | None, default: float, offset: float) -> float:
    """Return the time budget of a scrape, in seconds.

    `header` is X-Prometheus-Scrape-Timeout-Seconds, of which `offset` is reserved for the response.
    Without the header, or unless it is a positive number, the budget is `default`.
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
    """Return encoder and content type for an Accept header; text 0.0.4 when it is invalid."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):  # a version such as "x.y"
        return choose_encoder("")


def accepts_gzip(header: str) -> bool:
    """Return whether an Accept-Encoding header allows gzip and does not prefer identity."""
    weights = dict(_weight(part) for part in header.lower().split(",") if part.strip())
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


def prefers_json(accept: str) -> bool:
    """Return whether an Accept header prefers JSON to plain text."""
    weights = dict(_weight(part) for part in accept.lower().split(",") if part.strip())
    everything = weights.get("*/*", 0.0)
    text = weights.get("text/plain", weights.get("text/*", everything))
    return weights.get("application/json", everything) > text


def _weight(part: str) -> tuple[str, float]:
    """Parse a coding and its q-value, as in `gzip;q=0.5`; an invalid q-value counts as 0."""
    coding, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return coding, float(value)
            except ValueError:
                return coding, 0.0
    return coding, 1.0
