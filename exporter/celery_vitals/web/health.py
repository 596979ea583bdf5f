"""The paths /health, /worker and /queue: the verdict as JSON.

docs/schemas describes the responses, docs/health.md their use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from celery_vitals.health.codes import Status
from celery_vitals.health.parts import UnknownName, queue_verdict, worker_verdict
from celery_vitals.metrics.base import label_text
from celery_vitals.settings.model import HEALTH_PATH, QUEUE_PATH, WORKER_PATH
from celery_vitals.web.documents import (
    Document,
    NamedDocument,
    ValidRequest,
    check_parameters,
    encoded,
    json_response,
)

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams
    from starlette.responses import Response

    from celery_vitals.exporter import Collector
    from celery_vitals.health.document import Document as Content
    from celery_vitals.health.verdict import Verdict
    from celery_vitals.settings import Settings
    from celery_vitals.status import ClusterStatus

LIVE_PATH = f"{HEALTH_PATH}/live"
READY_PATH = f"{HEALTH_PATH}/ready"

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
        self._max_age = max(_MAX_AGE, settings.min_interval or 0.0)
        # Half, so that the results of one round are not too old before the next one ends.
        timeout = min(settings.worker_timeout, collector.health_limits.stale_after) / 2
        self._worker_max_age = max(timeout, self._max_age)
        self._collector = collector
        self._last: tuple[Verdict, bytes] | None = None
        self.stopping = False
        """Whether the server is stopping."""

    def documents(self) -> dict[str, Document]:
        """Return the documents by path."""
        return {HEALTH_PATH: self.verdict, LIVE_PATH: live, READY_PATH: self._ready}

    def named_documents(self) -> dict[str, NamedDocument]:
        """Return the documents of workers and queues by the prefix of their path."""
        return {f"{WORKER_PATH}/": self._worker, f"{QUEUE_PATH}/": self._queue}

    def verdict(self, query: QueryParams) -> ValidRequest:
        """Interpret a request for the verdict."""
        return ValidRequest(partial(self._verdict, strict_of(query)), self._refresh(self._max_age))

    def _worker(self, name: str, query: QueryParams) -> ValidRequest:
        strict, age = strict_of(query), self._worker_max_age
        verdict_of = partial(worker_verdict, label_text(name))
        return ValidRequest(partial(self._part, verdict_of, strict), self._refresh(age))

    def _queue(self, name: str, query: QueryParams) -> ValidRequest:
        strict, age = strict_of(query), max(_WAIT_AFTER, self._max_age)
        limits = self._collector.health_limits
        verdict_of = partial(queue_verdict, label_text(name), limits=limits)
        return ValidRequest(partial(self._part, verdict_of, strict), self._refresh(age))

    def _ready(self, query: QueryParams) -> ValidRequest:
        """Interpret the question whether a verdict is possible: every collector has a result."""
        check_parameters(query, ())
        starting = self._collector.results_age() is None
        if starting:
            self._collector.start_refresh(self._max_age)
        word = "stopping" if self.stopping else "starting" if starting else "ready"
        return ValidRequest(partial(_state, word, 200 if word == "ready" else 503))

    def _refresh(self, max_age: float) -> Callable[[], None] | None:
        """Start new probes if the results are older; return how to wait for them, if needed."""
        age = self._collector.results_age()
        if age is None or age > max(_WAIT_AFTER, max_age):
            return partial(self._collector.refresh, max_age)
        if age > max_age:
            self._collector.start_refresh(max_age)
        return None

    def _verdict(self, strict: bool) -> Response:
        verdict = self._collector.verdict()
        if self._last is None or self._last[0] is not verdict:
            self._last = verdict, encoded(self._collector.health())
        return json_response(self._last[1], status_code(verdict.status, strict))

    def _part(
        self, verdict_of: Callable[[Verdict, ClusterStatus], tuple[Status, Content]], strict: bool
    ) -> Response:
        """Return the verdict on a worker or queue.

        Unknown passes even if strict: probes restart what fails, which helps nothing unknown.
        """
        observed = self._collector.observe(_MAX_AGE)
        try:
            status, content = verdict_of(observed.verdict, observed.status)
        except UnknownName as error:
            return json_response(encoded(error.document()), 404)
        code = 200 if status is Status.UNKNOWN else status_code(status, strict)
        return json_response(encoded(content), code)


def live(query: QueryParams) -> ValidRequest:
    """Interpret the question whether the process is alive, whatever the state of the cluster."""
    check_parameters(query, ())
    return ValidRequest(partial(_state, "alive", 200))


def _state(word: str, status: int) -> Response:
    return json_response(encoded({"status": word}), status)


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
