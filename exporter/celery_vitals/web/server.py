"""The server around the app: sockets, TLS, signals, and a stop that takes less than two seconds."""

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

from celery_vitals.deadline import Deadline
from celery_vitals.web.app import Site
from celery_vitals.web.auth import Guard
from celery_vitals.web.config_reload import LiveConfig
from celery_vitals.web.sockets import bind_all, shown
from celery_vitals.web.tls import LiveContext

if TYPE_CHECKING:
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

_logger = logging.getLogger(__name__)

OnReady = Callable[[tuple[str, ...]], None]

# Of the two seconds of a stop; the rest is for the interpreter's own end.
_STOP_SECONDS = 1.6
_SCRAPE_GRACE = 0.3
_CLOSE_SECONDS = 1.0
# Longer than the usual scrape intervals, so that Prometheus keeps its connection (and saves the TLS handshake).
_KEEP_ALIVE_SECONDS = 75


def serve(collector: Collector, settings: Settings, on_ready: OnReady | None = None) -> int:
    """Serve until SIGTERM or SIGINT; then close the collector and return the exit code, 0.

    `on_ready` is called once requests are answered, with the URL of each address.  Raises ConfigError when an
    address cannot be listened on, or --web.config.file is wrong.
    """
    server = WebServer(collector, settings)
    with _signals(server.stop):
        server.run(on_ready)
    return 0


class WebServer:
    """Listens from its construction on (which raises ConfigError); `run` answers until `stop`."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        site = Site(collector, settings)
        live = LiveConfig(settings.web_config_file) if settings.web_config_file else None
        config = _config(
            Guard(site.app, live) if live else site.app, debug=settings.log_level == "debug"
        )
        if live and live.current().context:
            config.ssl = LiveContext(live.context)
        self._sockets = bind_all(settings.web_listen_address)
        scheme = "https" if config.ssl else "http"
        self.urls = tuple(f"{scheme}://{shown(sock)}" for sock in self._sockets)
        self._stop_by = Deadline.after(_STOP_SECONDS)
        self._server = _Server(config, site, self._ready)
        self._on_ready: OnReady | None = None

    def run(self, on_ready: OnReady | None = None) -> None:
        """Serve until `stop` is called, then close the collector."""
        self._on_ready = on_ready
        try:
            self._server.run(sockets=self._sockets)
        finally:
            self._collector.close(self._stop_by.within(_CLOSE_SECONDS))

    def stop(self) -> None:
        """End `run` soon; safe in a signal handler and from other threads.  A second call does not wait for clients."""
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
    """uvicorn's server, with our start, stop and signals."""

    def __init__(self, config: uvicorn.Config, site: Site, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._site = site
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Still listening meanwhile, so that /-/ready can say it.
        await self._site.stop(_SCRAPE_GRACE)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing: the time of a stop counts from our own handler, and uvicorn would raise the signal once more."""
        yield


def _config(app: ASGIApp, *, debug: bool) -> uvicorn.Config:
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
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop`; only in the main thread, elsewhere they are somebody else's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda *_: stop())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
