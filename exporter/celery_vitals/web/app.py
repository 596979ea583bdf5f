"""The ASGI app: paths and their responses."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from celery_vitals.deadline import Deadline
from celery_vitals.web import negotiation
from celery_vitals.web.headers import DefaultHeaders
from celery_vitals.web.pages import Page
from celery_vitals.web.scrape_intervals import ScrapeIntervals
from celery_vitals.web.scrapes import Busy, ScrapeRequest, Scrapes, Stopping
from celery_vitals.web.streaming import SlicedResponse

if TYPE_CHECKING:
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

_logger = logging.getLogger(__name__)


def build_app(collector: Collector, settings: Settings) -> Starlette:
    """Build an ASGI app to serve alone or to mount in another app (asyncio only; no lifespan).

    Its paths are settings.web_telemetry_path, `/`, `/-/healthy` and `/-/ready`.  The server applies
    TLS, users and headers of --web.config.file: a mounted app has those of its host.  The host also
    closes the collector.
    """
    return App(collector, settings).asgi


class App:
    """The ASGI app and its state."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._settings = settings
        self._scrapes = Scrapes(collector, settings)
        self._page = Page(settings)
        self._intervals = ScrapeIntervals()
        # The metrics come last: with the path `/` they replace the page.
        routes = {
            "/": self._root,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
            settings.web_telemetry_path: self._metrics,
        }
        self._paths = tuple(routes)
        self.asgi = Starlette(
            routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()],
            exception_handlers={HTTPException: self._http_error},
            middleware=[Middleware(DefaultHeaders)],
        )
        # Paths are exact: a redirect would hide a typo in a scrape configuration.
        self.asgi.router.redirect_slashes = False

    async def stop(self, grace: float) -> None:
        """Report not ready; scrapes that take longer than `grace` seconds are answered with 503."""
        await self._scrapes.stop(grace)

    async def _metrics(self, request: Request) -> Response:
        header = request.headers.get("x-prometheus-scrape-timeout-seconds")
        # A client without the header stores no series, and gets every value at once.
        scraper = request.client if header is not None else None
        seconds = negotiation.budget(header, self._settings.timeout, self._settings.timeout_offset)
        encode, content_type = negotiation.encoder(request.headers.get("accept", ""))
        compress = negotiation.accepts_gzip(request.headers.get("accept-encoding", ""))
        scrape = ScrapeRequest(
            Deadline.after(seconds),
            self._selected(request),
            self._max_age(request),
            encode,
            compress,
            scraper,
        )
        try:
            parts = await self._scrapes.run(scrape)
        except Busy:
            limit = self._settings.web_max_requests
            return _line(
                f"Busy: {limit} scrapes are running, the limit of --web.max-requests.", 503
            )
        except Stopping:
            return _line("Stopping.", 503)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if compress:
            headers["Content-Encoding"] = "gzip"
        return SlicedResponse(parts, headers=headers)

    def _selected(self, request: Request) -> Collection[str] | None:
        """Return the collectors that collect[] or exclude[] select; None selects all.

        Responds with 400 to an invalid selection.
        """
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

    def _max_age(self, request: Request) -> float:
        if self._settings.min_interval is not None:
            return self._settings.min_interval
        return self._intervals.reuse_for(request.client)

    async def _root(self, _: Request) -> Response:
        try:
            await self._scrapes.refresh(self._page.max_age)
            text = self._page.render(self._collector.status(), time.time())
        except Exception as error:  # noqa: BLE001 - its text may quote a secret
            _logger.error("cannot render the status page: %s", type(error).__name__)  # noqa: TRY400
            return _line(
                "Cannot render the status page (see the log). The metrics are not affected.", 500
            )
        return HTMLResponse(text, headers={"Content-Security-Policy": self._page.policy})

    async def _healthy(self, _: Request) -> Response:
        # No thread, lock or broker: this must respond when everything else hangs.
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        return _line("stopping", 503) if self._scrapes.stopping else _line("ready", 200)

    async def _http_error(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        texts = {
            404: f"Not found (paths: {', '.join(self._paths)})",
            405: "Method not allowed (allowed: GET, HEAD)",
        }
        headers = {"Allow": "GET, HEAD"} if error.status_code == 405 else None
        return _line(texts.get(error.status_code, error.detail), error.status_code, headers)


def _line(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)
