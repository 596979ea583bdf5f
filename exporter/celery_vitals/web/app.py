"""The ASGI app: paths and their responses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Lifespan

from celery_vitals.web.documents import Document, NamedDocument, ValidRequest
from celery_vitals.web.endpoints import Endpoints, healthy, is_prefix, line
from celery_vitals.web.headers import DefaultHeaders
from celery_vitals.web.scrapes import Busy, Scrapes, Stopping

if TYPE_CHECKING:
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

Responder = Callable[[Request], Coroutine[Any, Any, Response]]


class App:
    """The ASGI app and its state, for asyncio only.

    The server applies TLS, users and headers of --web.config.file.  With a `lifespan` the app is
    part of another application.
    """

    def __init__(
        self, collector: Collector, settings: Settings, lifespan: Lifespan[Starlette] | None = None
    ) -> None:
        self._scrapes = Scrapes(collector, settings)
        self._endpoints = Endpoints(collector, settings)
        self.clients = self._endpoints.clients
        routes = self._endpoints.routes(
            self._root, self._healthy, self._ready, self._document, self._named, self._metrics
        )
        self.asgi = Starlette(
            routes=[
                Route(f"{path}{{name:path}}" if is_prefix(path) else path, handler, methods=["GET"])
                for path, handler in routes.items()
            ],
            exception_handlers={HTTPException: self._http_error},
            middleware=[Middleware(DefaultHeaders)],
            lifespan=lifespan,
        )
        # Paths are exact: a redirect would hide a typo in a scrape configuration.
        self.asgi.router.redirect_slashes = False

    async def stop(self, grace: float) -> None:
        """Report not ready; scrapes that take longer than `grace` seconds are answered with 503."""
        self._endpoints.health.stopping = True
        await self._scrapes.stop(grace)

    async def _metrics(self, request: Request) -> Response:
        scrape = self._endpoints.scrape_request(request)
        try:
            return self._endpoints.metrics(scrape, await self._scrapes.run(scrape))
        except Busy:
            return self._endpoints.busy()
        except Stopping:
            return line("Stopping.", 503)

    async def _root(self, _: Request) -> Response:
        try:
            await self._scrapes.refresh(self._endpoints.page_max_age)
            return self._endpoints.page()
        except Exception as error:  # noqa: BLE001 - its text may quote a secret
            return self._endpoints.page_failed(error)

    def _document(self, document: Document) -> Responder:
        async def respond(request: Request) -> Response:
            return await self._respond(request, document(request.query_params), document)

        return respond

    def _named(self, document: NamedDocument) -> Responder:
        async def respond(request: Request) -> Response:
            valid = document(request.path_params["name"], request.query_params)
            return await self._respond(request, valid, document)

        return respond

    async def _respond(self, request: Request, valid: ValidRequest, key: Hashable) -> Response:
        try:
            if valid.refresh is not None:
                await self._scrapes.share(key, valid.refresh)
            return valid.respond()
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - its text may quote a secret
            return self._endpoints.document_failed(request, error)

    async def _healthy(self, _: Request) -> Response:
        # No thread, lock or broker: this must respond when everything else hangs.
        return healthy()

    async def _ready(self, _: Request) -> Response:
        return line("stopping", 503) if self._scrapes.stopping else line("ready", 200)

    async def _http_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
        return self._endpoints.error(request, error)
