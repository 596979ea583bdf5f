"""The HTTP server: sockets, TLS, signals, and a shutdown within two seconds."""

from __future__ import annotations

import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from celery_vitals._version import __version__
from celery_vitals.deadline import Deadline
from celery_vitals.web.app import App
from celery_vitals.web.auth import Authentication
from celery_vitals.web.clients import Address
from celery_vitals.web.config_reload import ReloadingConfig
from celery_vitals.web.sockets import bind_all, socket_address
from celery_vitals.web.tls import ReloadingContext

if TYPE_CHECKING:
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

_logger = logging.getLogger(__name__)

OnReady = Callable[[tuple[str, ...]], None]

# Of the two seconds of a shutdown; the rest is for the exit of the interpreter.
_STOP_SECONDS = 1.6
_SCRAPE_GRACE = 0.3
_CLOSE_SECONDS = 1.0
# Longer than usual scrape intervals, so that Prometheus reuses its connection.
_KEEP_ALIVE_SECONDS = 75


def serve(collector: Collector, settings: Settings, on_ready: OnReady | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then close the collector and return the exit code, 0.

    `on_ready` is called when the server accepts requests, with the URL of each address.  Raises
    ConfigError when an address cannot be bound, or --web.config.file is invalid.
    """
    server = WebServer(collector, settings)
    _logger.info("started", extra={"version": __version__})
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        server.stop()

    with _signals(stop):
        server.run(on_ready)
    names = [signal.Signals(number).name for number in received]
    _logger.info("stopped", extra={"signal": names[0]} if names else None)
    return 0


class WebServer:
    """Listens from construction on (which raises ConfigError); `run` serves until `stop`."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        app = App(collector, settings)
        web_config = ReloadingConfig(settings.web_config_file) if settings.web_config_file else None
        asgi = Authentication(app.asgi, web_config) if web_config else app.asgi
        config = _uvicorn_config(asgi, debug=settings.log_level == "debug")
        if web_config and web_config.current().context:
            config.ssl = ReloadingContext(web_config.context)
        self._sockets = bind_all(settings.web_listen_address)
        scheme = "https" if config.ssl else "http"
        self.urls = tuple(f"{scheme}://{socket_address(sock)}" for sock in self._sockets)
        self._stop_by = Deadline.after(_STOP_SECONDS)
        self._server = _Server(config, app, self._ready)
        app.clients.open_connections = self._server.open_connections
        self._on_ready: OnReady | None = None

    def run(self, on_ready: OnReady | None = None) -> None:
        """Serve until `stop` is called, then close the collector."""
        self._on_ready = on_ready
        try:
            self._server.run(sockets=self._sockets)
        finally:
            self._collector.close(self._stop_by.within(_CLOSE_SECONDS))

    def stop(self) -> None:
        """End `run`; safe in a signal handler and from other threads.

        A second call does not wait for clients.
        """
        if not self._server.should_exit:
            self._stop_by = Deadline.after(_STOP_SECONDS)
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True

    def _ready(self) -> None:
        for url in self.urls:
            _logger.info("listening", extra={"address": url})
        if self._on_ready:
            self._on_ready(self.urls)


class _Server(uvicorn.Server):
    """uvicorn's server with hooks at startup and shutdown, and without its signal handlers."""

    def __init__(self, config: uvicorn.Config, app: App, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready

    def open_connections(self) -> set[Address | None]:
        """Return host and port of each client."""
        return {getattr(one, "client", None) for one in self.server_state.connections}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The server still listens, so that /-/ready reports it.
        await self._app.stop(_SCRAPE_GRACE)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: our handlers start the shutdown, and uvicorn would re-raise the signal."""
        yield


def _uvicorn_config(app: ASGIApp, *, debug: bool) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="debug" if debug else "error",
        access_log=debug,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=1,
    )
    config.load()
    return config


@contextmanager
def _signals(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT; in the main thread only, where handlers can be set."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda received, _: stop(received))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
