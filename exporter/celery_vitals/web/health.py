"""The path /health: the verdict as JSON.

docs/schemas/health.json describes the response, docs/health.md its use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from celery_vitals.health.codes import Status
from celery_vitals.web.documents import encoded, json_response

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from celery_vitals.exporter import Collector
    from celery_vitals.health.verdict import Verdict
    from celery_vitals.settings import Settings

_MAX_AGE = 5.0
"""Age of results, in seconds, from which on a request starts new probes."""
_WAIT_AFTER = 15.0
"""Age of results, in seconds, from which on a request waits for new ones."""
_STRICT = {"": False, "0": False, "false": False, "1": True, "true": True}


class Health:
    """Returns the verdict on the last results, and keeps them recent.

    However many requests there are, they share one round of probes in `max_age` seconds, and the
    text of one verdict.
    """

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self.max_age = max(_MAX_AGE, settings.min_interval or 0.0)
        self._wait_after = max(_WAIT_AFTER, self.max_age)
        self._collector = collector
        self._last: tuple[Verdict, bytes] | None = None

    def refresh(self) -> bool:
        """Start new probes if the results are old; return whether the request must wait for them.

        Does not block.
        """
        age = self._collector.results_age()
        if age is not None and age <= self.max_age:
            return False
        self._collector.start_refresh(self.max_age)
        return age is None or age > self._wait_after

    def verdict(self, query: QueryParams) -> Response:
        """Return the verdict; HTTPException when the query is invalid."""
        strict = strict_of(query)
        verdict = self._collector.verdict()
        if self._last is None or self._last[0] is not verdict:
            self._last = verdict, encoded(self._collector.health())
        return json_response(self._last[1], status_code(verdict.status, strict))


def status_code(status: Status, strict: bool) -> int:
    """Return the status code of a response with this verdict."""
    failed = status is Status.UNHEALTHY or (strict and status is Status.DEGRADED)
    return 503 if failed else 200


def strict_of(query: QueryParams) -> bool:
    """Return whether a degraded cluster counts as a failure; HTTPException for a wrong query."""
    if not set(query) <= {"strict"}:
        raise HTTPException(400, "unknown parameter (expected one of: strict)")
    values = query.getlist("strict")
    if len(values) > 1 or not set(values) <= set(_STRICT):
        raise HTTPException(400, "strict: must be 1 or 0")
    return _STRICT[values[0]] if values else False
