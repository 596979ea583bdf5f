"""The WSGI app, for applications that are not asynchronous.  The host's thread does the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from celery_vitals.web.documents import Document, NamedDocument, ValidRequest
from celery_vitals.web.endpoints import Endpoints, healthy, is_prefix, line
from celery_vitals.web.headers import SECURITY
from celery_vitals.web.scrapes import Busy, Scrapes
from celery_vitals.web.streaming import SlicedResponse, slices

if TYPE_CHECKING:
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings


Environ = Mapping[str, Any]


class WsgiApp:
    """Returns the same responses as the ASGI app.  Uses no event loop: gevent may run the host."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._scrapes = Scrapes(collector, settings)
        self._endpoints = Endpoints(collector, settings)
        self._routes: dict[str, Callable[[Request], Response]] = self._endpoints.routes(
            self._root,
            lambda _: healthy(),
            lambda _: line("ready", 200),
            self._document,
            self._named,
            self._metrics,
        )

    def __call__(self, env: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        """Respond to one request."""
        return send_response(self._respond(request_of(env)), env, start_response)

    def _respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if not path:
            # The links of the page are relative to the mount point.
            location = f"{request.scope['root_path']}/"
            return line(f"Moved: {location}", 307, {"Location": location})
        try:
            handler = self._handler(request)
            if request.method not in ("GET", "HEAD"):
                raise HTTPException(405)
            return handler(request)
        except HTTPException as error:
            return self._endpoints.error(request, error)

    def _metrics(self, request: Request) -> Response:
        scrape = self._endpoints.scrape_request(request)
        try:
            return self._endpoints.metrics(scrape, self._scrapes.run_here(scrape))
        except Busy:
            return self._endpoints.busy()

    def _handler(self, request: Request) -> Callable[[Request], Response]:
        """Return the handler of a path, whose name becomes a parameter.  Raises HTTPException."""
        path: str = request.scope["path"]
        if path in self._routes and not is_prefix(path):
            return self._routes[path]
        for prefix in filter(is_prefix, self._routes):
            if path.startswith(prefix):
                request.scope["path_params"] = {"name": path.removeprefix(prefix)}
                return self._routes[prefix]
        raise HTTPException(404)

    def _document(self, document: Document) -> Callable[[Request], Response]:
        return lambda request: self._answer(request, document(request.query_params))

    def _named(self, document: NamedDocument) -> Callable[[Request], Response]:
        return lambda request: self._answer(
            request, document(request.path_params["name"], request.query_params)
        )

    def _answer(self, request: Request, valid: ValidRequest) -> Response:
        try:
            if valid.refresh is not None:
                valid.refresh()
            return valid.respond()
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001 - its text may quote a secret
            return self._endpoints.document_failed(request, error)

    def _root(self, _: Request) -> Response:
        try:
            self._collector.refresh(self._endpoints.page_max_age)
            return self._endpoints.page()
        except Exception as error:  # noqa: BLE001 - its text may quote a secret
            return self._endpoints.page_failed(error)


def send_response(
    response: Response, env: Environ, start_response: Callable[..., object]
) -> Iterable[bytes]:
    """Send the headers, with those of SECURITY; return the parts of the body."""
    for name, value in SECURITY.items():
        response.headers.setdefault(name, value)
    status = f"{response.status_code} {HTTPStatus(response.status_code).phrase}"
    headers = [(key.decode(), value.decode("latin-1")) for key, value in response.raw_headers]
    start_response(status, headers)
    if env["REQUEST_METHOD"] == "HEAD":
        return ()
    parts = response.parts if isinstance(response, SlicedResponse) else [bytes(response.body)]
    return slices(parts)


def request_of(env: Environ) -> Request:
    """Return the request, with the part of an ASGI scope that the endpoints read."""
    headers = [
        (name.removeprefix("HTTP_").replace("_", "-").lower().encode(), value.encode("latin-1"))
        for name, value in env.items()
        if name.startswith("HTTP_")
    ]
    address = env.get("REMOTE_ADDR")
    scope = {
        "type": "http",
        "method": env["REQUEST_METHOD"],
        # WSGI passes the bytes of the path as Latin-1 (PEP 3333).
        "path": env.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace"),
        "root_path": env.get("SCRIPT_NAME", ""),
        "query_string": env.get("QUERY_STRING", "").encode("latin-1"),
        "headers": headers,
        "client": (address, 0) if address else None,
    }
    return Request(scope)
