"""The path /health inside another application: `make_asgi_app` and `make_wsgi_app`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from celery_vitals.health.codes import Status
from celery_vitals.integrations.results import HealthResult
from celery_vitals.web.documents import encoded, json_response
from celery_vitals.web.headers import DefaultHeaders
from celery_vitals.web.health import status_code, strict_of
from celery_vitals.web.threads import in_thread
from celery_vitals.web.wsgi import request_of, send_response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from celery_vitals.integrations.health_checker import HealthChecker

_REUSED = 0.1
"""Seconds for which the text of a result is reused."""


def make_asgi_app(checker: HealthChecker) -> HealthAsgiApp:
    """Return an ASGI app that responds as /health of the exporter, on every path it gets."""
    return HealthAsgiApp(checker)


def make_wsgi_app(checker: HealthChecker) -> HealthWsgiApp:
    """Return a WSGI app that responds as /health of the exporter, on every path it gets."""
    return HealthWsgiApp(checker)


class HealthEndpoint:
    """Turns results into responses, whatever the interface of the server."""

    def __init__(self) -> None:
        self._last: tuple[HealthResult, float, bytes] | None = None

    def respond(self, request: Request, result: HealthResult) -> Response:
        """Return the response; HTTPException when the request is invalid."""
        strict = strict_of(request.query_params)
        return json_response(self._text(result), status_code(Status(result.status), strict))

    def _text(self, result: HealthResult) -> bytes:
        now, last = time.monotonic(), self._last
        if last is None or last[0] is not result or now - last[1] > _REUSED:
            self._last = last = result, now, encoded(result.as_dict())
        return last[2]


class HealthAsgiApp:
    """An ASGI app; its `lifespan` starts and stops the checker.

    Hosts do not run the lifespan of a mounted app: give them `lifespan` as their own, or enter it
    in theirs.  Without it, requests check in the background.
    """

    def __init__(self, checker: HealthChecker) -> None:
        self._checker = checker
        self._endpoint = HealthEndpoint()
        self._reading: asyncio.Future[HealthResult] | None = None
        self._asgi = Starlette(
            routes=[Route("/{path:path}", self._respond, methods=["GET"])],
            exception_handlers={HTTPException: _http_error},
            middleware=[Middleware(DefaultHeaders)],
            lifespan=self.lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, or the lifespan."""
        await self._asgi(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Check in the background from the start to the end of the host."""
        self._checker.start()
        try:
            yield
        finally:
            await in_thread(self._checker.stop, "celery-vitals-stop")

    async def _respond(self, request: Request) -> Response:
        # All requests that wait for a result share one thread.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._checker.aread())
        return self._endpoint.respond(request, await asyncio.shield(self._reading))


class HealthWsgiApp:
    """A WSGI app.  Where no result is recent, the host's thread waits for one."""

    def __init__(self, checker: HealthChecker) -> None:
        self._checker = checker
        self._endpoint = HealthEndpoint()

    def __call__(
        self, env: Mapping[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Respond to one request."""
        return send_response(self.respond(request_of(env)), env, start_response)

    def respond(self, request: Request) -> Response:
        """Return the response to a request."""
        try:
            if request.method not in ("GET", "HEAD"):
                raise HTTPException(405)
            return self._endpoint.respond(request, self._checker.read())
        except HTTPException as error:
            return _error(error)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type
    return _error(error)


def _error(error: HTTPException) -> Response:
    wrong_method = error.status_code == 405
    text = "Method not allowed (allowed: GET, HEAD)" if wrong_method else error.detail
    response = json_response(encoded({"error": text}), error.status_code)
    if wrong_method:
        response.headers["Allow"] = "GET, HEAD"
    return response
