"""Documents in JSON: what a path that returns one consists of, and their encoding."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.web.pages import utc

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

_HTML = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
"""Characters that may end the text where a page contains it; in JSON they occur in strings only."""


@dataclass(frozen=True)
class ValidRequest:
    """A request for a document whose query is valid."""

    respond: Callable[[], Response]
    """Returns the response, of what is known by then; does not block."""
    refresh: Callable[[], None] | None = None
    """Makes that recent, if it is not; blocks.  Concurrent requests share one call."""


Document = Callable[["QueryParams"], ValidRequest]
"""Interprets the query of a request for a path; HTTPException when it is invalid."""
NamedDocument = Callable[[str, "QueryParams"], ValidRequest]
"""The same for the paths of one prefix, which end with a name."""


def encoded(content: object) -> bytes:
    """Return the text of a value, in one line."""
    # Lone surrogates, which some parsers refuse, become question marks, as in metrics.
    text = json.dumps(content, ensure_ascii=False, allow_nan=False).translate(_HTML)
    return text.encode("utf-8", "replace")


def json_response(body: bytes, status: int = 200) -> Response:
    """Return the response for an encoded document, which no proxy keeps."""
    headers = {"Cache-Control": "no-store"}
    return Response(body + b"\n", status, headers, media_type="application/json")


def check_parameters(query: QueryParams, allowed: Collection[str]) -> None:
    """Raise HTTPException for a parameter that is not allowed, or empty."""
    if not set(query) <= set(allowed):
        expected = f"expected one of: {', '.join(allowed)}" if allowed else "none is expected"
        raise HTTPException(400, f"unknown parameter ({expected})")
    for name in allowed:
        if "" in query.getlist(name):
            raise HTTPException(400, f"{name}: must not be empty")


def time_or_null(when: float | None) -> str | None:
    """Return a Unix time in UTC; null when it is unknown."""
    return utc(when) if when else None


def watching(up: bool, since: float | None, connected_since: float | None) -> dict[str, Any]:
    """Return since when task events are received."""
    return {
        "up": up,
        "since": time_or_null(since),
        "connected_since": time_or_null(connected_since),
    }


def blind_spots(spots: Iterable[BlindSpot]) -> list[dict[str, str | None]]:
    """Return what cannot be observed."""
    return [
        {"subject": spot.subject, "reason": spot.reason, "setting": spot.setting or None}
        for spot in spots
    ]
