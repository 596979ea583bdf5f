"""The paths /health, /worker and /queue: the verdict as JSON.

docs/schemas describes the responses, docs/health.md their use.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import Response

from celery_vitals.health.codes import Status
from celery_vitals.health.parts import UnknownName, queue_verdict, worker_verdict
from celery_vitals.metrics.base import label_text
from celery_vitals.settings.model import HEALTH_PATH, QUEUE_PATH, WORKER_PATH

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

    from celery_vitals.exporter import Collector
    from celery_vitals.health.document import Document
    from celery_vitals.health.verdict import Verdict
    from celery_vitals.settings import Settings

LIVE_PATH = f"{HEALTH_PATH}/live"
READY_PATH = f"{HEALTH_PATH}/ready"
WORKER_PREFIX = f"{WORKER_PATH}/"
QUEUE_PREFIX = f"{QUEUE_PATH}/"

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
        self.queue_max_age = max(_WAIT_AFTER, self.max_age)
        # Half, so that the results of one round are not too old before the next one ends.
        timeout = min(settings.worker_timeout, collector.health_limits.stale_after) / 2
        self.worker_max_age = max(timeout, self.max_age)
        self._collector = collector
        self._last: tuple[Verdict, bytes] | None = None

    def refresh(self, max_age: float) -> bool:
        """Start new probes if the results are older; return whether to wait for new ones instead.

        Does not block.
        """
        age = self._collector.results_age()
        if age is None or age > max(_WAIT_AFTER, max_age):
            return True
        if age > max_age:
            self._collector.start_refresh(max_age)
        return False

    def verdict(self, query: QueryParams) -> Response:
        """Return the verdict; HTTPException when the query is invalid."""
        strict = strict_of(query)
        verdict = self._collector.verdict()
        if self._last is None or self._last[0] is not verdict:
            self._last = verdict, encoded(self._collector.health())
        return json_response(self._last[1], status_code(verdict.status, strict))

    def worker(self, name: str, query: QueryParams) -> Response:
        """Return the verdict on a worker, from what is known."""
        strict = strict_of(query)
        observed = self._collector.observe(_MAX_AGE)
        try:
            found = worker_verdict(label_text(name), observed.verdict, observed.status)
        except UnknownName as error:
            return json_response(encoded(error.document()), 404)
        return _part(*found, strict)

    def queue(self, name: str, query: QueryParams) -> Response:
        """Return the verdict on a queue, from what is known."""
        strict = strict_of(query)
        observed, limits = self._collector.observe(_MAX_AGE), self._collector.health_limits
        try:
            found = queue_verdict(label_text(name), observed.verdict, observed.status, limits)
        except UnknownName as error:
            return json_response(encoded(error.document()), 404)
        return _part(*found, strict)

    def ready(self, query: QueryParams, stopping: bool) -> Response:
        """Return whether a verdict is possible: every collector has a result, even a failure."""
        _none_of(query)
        if not stopping and self._collector.results_age() is None:
            self._collector.start_refresh(self.max_age)
            return _state("starting", 503)
        return _state("stopping", 503) if stopping else _state("ready", 200)


def live(query: QueryParams) -> Response:
    """Return that the process is alive, whatever the state of the cluster."""
    _none_of(query)
    return _state("alive", 200)


def _state(word: str, status: int) -> Response:
    return json_response(encoded({"status": word}), status)


def _part(status: Status, document: Document, strict: bool) -> Response:
    """Return the verdict on a part.

    Unknown passes even if strict: probes restart what fails, which helps nothing unknown.
    """
    code = 200 if status is Status.UNKNOWN else status_code(status, strict)
    return json_response(encoded(document), code)


def status_code(status: Status, strict: bool) -> int:
    """Return the status code of a response with this verdict."""
    passes = status is Status.HEALTHY if strict else status is not Status.UNHEALTHY
    return 200 if passes else 503


def strict_of(query: QueryParams) -> bool:
    """Return whether only a healthy cluster passes; HTTPException for a wrong query."""
    if not set(query) <= {"strict"}:
        raise HTTPException(400, "unknown parameter (expected one of: strict)")
    values = query.getlist("strict")
    if len(values) > 1 or not set(values) <= set(_STRICT):
        raise HTTPException(400, "strict: must be 1 or 0")
    return _STRICT[values[0]] if values else False


def _none_of(query: QueryParams) -> None:
    if query:
        raise HTTPException(400, "unknown parameter (none is expected)")


def encoded(document: Document) -> bytes:
    """Return the text of a document."""
    # Lone surrogates, which some parsers refuse, become question marks, as in metrics.
    return (json.dumps(document, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def json_response(body: bytes, status: int) -> Response:
    """Return a response."""
    return Response(body, status, media_type="application/json")
