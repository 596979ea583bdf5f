"""What each path returns, whatever the interface of the server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from celery_vitals.deadline import Deadline
from celery_vitals.metrics.base import label_text
from celery_vitals.settings.model import (
    HEALTH_PATH,
    LOST_PATH,
    QUEUE_PATH,
    STATS_PATH,
    TASKS_PATH,
    WORKER_PATH,
)
from celery_vitals.web import negotiation
from celery_vitals.web.clients import Clients
from celery_vitals.web.documents import (
    Document,
    NamedDocument,
    ValidRequest,
    encoded,
    json_response,
)
from celery_vitals.web.health import Health
from celery_vitals.web.lost import lost_executions
from celery_vitals.web.pages import Page
from celery_vitals.web.scrape_intervals import ScrapeIntervals
from celery_vitals.web.scrapes import ScrapeRequest
from celery_vitals.web.stats import Stats
from celery_vitals.web.streaming import SlicedResponse
from celery_vitals.web.tasks import Tasks

if TYPE_CHECKING:
    from starlette.datastructures import QueryParams

    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

Handler = TypeVar("Handler")

_JSON_PATHS = tuple(f"{path}/" for path in (HEALTH_PATH, WORKER_PATH, QUEUE_PATH))
"""Prefixes of paths whose errors are JSON."""

_logger = logging.getLogger(__name__)


class Endpoints:
    """Interprets requests and builds responses.  Nothing here blocks."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self.clients = Clients()
        self._collector = collector
        self._settings = settings
        self._page = Page(settings)
        self._intervals = ScrapeIntervals()
        self._paths: tuple[str, ...] = ()
        self.page_max_age = self._page.max_age
        self.health = Health(collector, settings)

    def routes(
        self,
        page: Handler,
        healthy: Handler,
        ready: Handler,
        document: Callable[[Document], Handler],
        named: Callable[[NamedDocument], Handler],
        metrics: Handler,
    ) -> dict[str, Handler]:
        """Return the handlers by path; with the path `/` the metrics replace the page.

        `document` returns the handler of a document, `named` that of the documents of a prefix: a
        path that ends with `/`.
        """
        routes = {"/": page, "/-/healthy": healthy, "/-/ready": ready}
        routes.update((path, document(one)) for path, one in self._documents().items())
        routes.update((path, named(one)) for path, one in self.health.named_documents().items())
        routes[self._settings.web_telemetry_path] = metrics
        self._paths = tuple(f"{path}NAME" if is_prefix(path) else path for path in routes)
        return routes

    def _documents(self) -> dict[str, Document]:
        documents = self.health.documents()
        if self._settings.web_lost:
            documents[LOST_PATH] = self._lost
        if self._settings.web_tasks:
            documents[TASKS_PATH] = Tasks(
                self._collector.task_list, self._collector.refresh_task_list
            )
        if self._settings.web_stats:
            documents[STATS_PATH] = Stats(self._collector.totals)
        return documents

    def scrape_request(self, request: Request) -> ScrapeRequest:
        """Return what a request for the metrics asks for; HTTPException when it is invalid."""
        header = request.headers.get("x-prometheus-scrape-timeout-seconds")
        client = self.clients.identify(request.client) if request.client else None
        seconds = negotiation.budget(header, self._settings.timeout, self._settings.timeout_offset)
        encode, content_type = negotiation.encoder(request.headers.get("accept", ""))
        compress = negotiation.accepts_gzip(request.headers.get("accept-encoding", ""))
        return ScrapeRequest(
            Deadline.after(seconds),
            self._selected(request),
            self._max_age(client),
            encode,
            content_type,
            compress,
            # A client without the header stores no series, and gets every value at once.
            client if header is not None else None,
        )

    def _selected(self, request: Request) -> Collection[str] | None:
        """Return the collectors that collect[] or exclude[] select; None selects all."""
        names = self._collector.names
        included = request.query_params.getlist("collect[]")
        excluded = request.query_params.getlist("exclude[]")
        expected = f"expected one of: {', '.join(names)}"
        if included and excluded:
            raise HTTPException(400, f"collect[] and exclude[] are mutually exclusive ({expected})")
        for parameter, values in (("collect[]", included), ("exclude[]", excluded)):
            if not set(values) <= set(names):
                problem = "unknown or disabled collector"
                raise HTTPException(400, f"{parameter}: {problem} ({expected})")
        if included:
            return tuple(name for name in names if name in included)
        if excluded:
            return tuple(name for name in names if name not in excluded)
        return None

    def _max_age(self, client: int | None) -> float:
        if self._settings.min_interval is not None:
            return self._settings.min_interval
        return self._intervals.reuse_for(client)

    def metrics(self, scrape: ScrapeRequest, parts: Sequence[bytes]) -> SlicedResponse:
        """Return the metrics."""
        headers = {"Content-Type": scrape.content_type, "Vary": "Accept, Accept-Encoding"}
        if scrape.compress:
            headers["Content-Encoding"] = "gzip"
        return SlicedResponse(parts, headers=headers)

    def busy(self) -> Response:
        """Return that too many scrapes are running."""
        limit = self._settings.web_max_requests
        return line(f"Busy: {limit} scrapes are running, the limit of --web.max-requests.", 503)

    def _lost(self, query: QueryParams) -> ValidRequest:
        body = lost_executions(self._collector.cases(), query)
        return ValidRequest(partial(json_response, body))

    def page(self) -> Response:
        """Return the status page, of the results of the last probes."""
        text = self._page.render(self._collector.status(), self._collector.verdict(), time.time())
        return HTMLResponse(
            label_text(text), headers={"Content-Security-Policy": self._page.policy}
        )

    def page_failed(self, error: Exception) -> Response:
        """Return that there is no page, and log the type of the error: its text may be secret."""
        _logger.error("cannot render the status page: %s", type(error).__name__)
        return line(
            "Cannot render the status page (see the log). The metrics are not affected.", 500
        )

    def document_failed(self, request: Request, error: Exception) -> Response:
        """Return that there is no document, and log the type of the error only."""
        path = request.scope["path"]
        _logger.error("cannot render %s: %s", path, type(error).__name__)
        text = f"Cannot render {path} (see the log). The metrics are not affected."
        return self.error(request, HTTPException(500, text))

    def error(self, request: Request, error: HTTPException) -> Response:
        """Return an error as one line, or as JSON where it is expected."""
        texts = {
            404: f"Not found (paths: {', '.join(self._paths)})",
            405: "Method not allowed (allowed: GET, HEAD)",
        }
        headers = {"Allow": "GET, HEAD"} if error.status_code == 405 else None
        text = texts.get(error.status_code, error.detail)
        path = f"{request.scope['path'].removeprefix(request.scope.get('root_path', ''))}/"
        if path.startswith(_JSON_PATHS) or negotiation.prefers_json(
            request.headers.get("accept", "")
        ):
            answer = json_response(encoded({"error": text}), error.status_code)
            answer.headers.update(headers or {})
            return answer
        return line(text, error.status_code, headers)


def is_prefix(path: str) -> bool:
    """Return whether a path is the prefix of a name."""
    return path.endswith("/") and path != "/"


def healthy() -> Response:
    """Return that the process is alive."""
    return PlainTextResponse("ok\n")


def line(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return a response of one line."""
    return PlainTextResponse(f"{text}\n", status, headers)
