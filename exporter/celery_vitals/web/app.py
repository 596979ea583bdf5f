"""The app: which path answers what."""

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
from celery_vitals.web.scrapes import Busy, Order, Scrapes, Stopping
from celery_vitals.web.streaming import PartsResponse

if TYPE_CHECKING:
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

_logger = logging.getLogger(__name__)


def build_app(collector: Collector, settings: Settings) -> Starlette:
    """An ASGI app that can be served alone or mounted in another one (under asyncio; it needs no lifespan).

    It answers settings.web_telemetry_path, `/`, `/-/healthy` and `/-/ready`.  TLS, users and headers of
    --web.config.file are the server's business: a mounted app has those of its host.  Whoever mounts it closes the
    collector.
    """
    return Site(collector, settings).app


class Site:
    """The app with its state."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._settings = settings
        self._scrapes = Scrapes(collector, settings)
        self._page = Page(settings)
        # The metrics last: at `/` they take the place of the page.
        routes = {
            "/": self._root,
            "/-/healthy": self._healthy,
            "/-/ready": self._ready,
            settings.web_telemetry_path: self._metrics,
        }
        self._paths = tuple(routes)
        self.app = Starlette(
            routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in routes.items()],
            exception_handlers={HTTPException: self._refusal},
            middleware=[Middleware(DefaultHeaders)],
        )
        # The paths are exact: a redirect would hide a typing error in a scrape config.
        self.app.router.redirect_slashes = False

    async def stop(self, grace: float) -> None:
        """Not ready from now on; scrapes that take longer than `grace` seconds are answered 503."""
        await self._scrapes.stop(grace)

    async def _metrics(self, request: Request) -> Response:
        header = request.headers.get("x-prometheus-scrape-timeout-seconds")
        seconds = negotiation.budget(header, self._settings.timeout, self._settings.timeout_offset)
        encode, content_type = negotiation.encoder(request.headers.get("accept", ""))
        compress = negotiation.accepts_gzip(request.headers.get("accept-encoding", ""))
        order = Order(Deadline.after(seconds), self._chosen(request), encode, compress)
        try:
            parts = await self._scrapes.run(order)
        except Busy:
            limit = self._settings.web_max_requests
            return _line(
                f"Busy: {limit} scrapes are running, and --web.max-requests allows no more.", 503
            )
        except Stopping:
            return _line("Stopping.", 503)
        headers = {"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}
        if compress:
            headers["Content-Encoding"] = "gzip"
        return PartsResponse(parts, headers=headers)

    def _chosen(self, request: Request) -> Collection[str] | None:
        """The collectors that collect[] or exclude[] leave; None when neither is given.  400 when they are wrong."""
        names = self._collector.names
        wanted = request.query_params.getlist("collect[]")
        unwanted = request.query_params.getlist("exclude[]")
        valid = f"the collectors are {', '.join(names)}."
        if wanted and unwanted:
            raise HTTPException(400, f"Give collect[] or exclude[], not both; {valid}")
        for parameter, given in (("collect[]", wanted), ("exclude[]", unwanted)):
            if not set(given) <= set(names):
                raise HTTPException(400, f"{parameter} names no collector that is on; {valid}")
        if wanted:
            return tuple(name for name in names if name in wanted)
        if unwanted:
            return tuple(name for name in names if name not in unwanted)
        return None

    async def _root(self, _: Request) -> Response:
        try:
            text = self._page.render(self._collector.report(), time.time())
        except Exception as error:  # noqa: BLE001 - its text may quote a secret, so only its kind is logged
            _logger.error("the page could not be built: %s", type(error).__name__)  # noqa: TRY400
            return _line("The page could not be built. The metrics are not affected.", 500)
        return HTMLResponse(text, headers={"Content-Security-Policy": self._page.policy})

    async def _healthy(self, _: Request) -> Response:
        # No thread, no lock, no broker: it must answer when everything else hangs.
        return PlainTextResponse("ok\n")

    async def _ready(self, _: Request) -> Response:
        return _line("stopping", 503) if self._scrapes.stopping else _line("ready", 200)

    async def _refusal(self, _: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - that is what it is registered for
        words = {
            404: f"Not found. The paths are {' '.join(self._paths)}",
            405: "Only GET and HEAD are answered.",
        }
        headers = {"Allow": "GET, HEAD"} if error.status_code == 405 else None
        return _line(words.get(error.status_code, error.detail), error.status_code, headers)


def _line(text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{text}\n", status, headers)
