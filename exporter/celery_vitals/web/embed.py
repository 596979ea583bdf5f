"""The exporter inside another application: `celery_vitals.asgi_app` and `wsgi_app`."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.exporter import Collector
from celery_vitals.settings.embedded import app_within, settings_within
from celery_vitals.web.app import App
from celery_vitals.web.auth import Authentication
from celery_vitals.web.config_reload import ReloadingConfig
from celery_vitals.web.threads import in_thread
from celery_vitals.web.wsgi import WsgiApp

if TYPE_CHECKING:
    from celery import Celery
    from starlette.types import Receive, Scope, Send

    from celery_vitals.settings import Settings

_STOP_GRACE = 0.3
_CLOSE_SECONDS = 1.0


def asgi_app(app: Celery | str | None = None, **options: Any) -> AsgiApp:
    """Return the exporter as an ASGI app, to mount in another one.

    `app` is the Celery app or its name; `options` are those of `celery-vitals serve`, with
    underscores.  What they leave open is taken from the environment (CELERY_VITALS_...), the
    configuration file and the Celery app.  Raises ConfigError, whose text is one line.
    """
    settings = settings_within(asgi_app.__name__, app, options)
    config = ReloadingConfig(settings.web_config_file) if settings.web_config_file else None
    if config and config.current().context:
        raise ConfigError(
            "--web.config.file: tls_server_config has no effect in asgi_app (the server of the"
            " application provides TLS)"
        )
    return AsgiApp(partial(Collector, settings, app_within(app, settings)), settings, config)


def wsgi_app(app: Celery | str | None = None, **options: Any) -> WsgiApp:
    """Return the exporter as a WSGI app, to mount in another one; like `asgi_app`."""
    settings = settings_within(wsgi_app.__name__, app, options)
    if settings.web_config_file:
        raise ConfigError(
            "--web.config.file: not supported by wsgi_app (protect its path in the application, or"
            " use asgi_app)"
        )
    collector = Collector(settings, app_within(app, settings))
    wsgi = WsgiApp(collector, settings)
    weakref.finalize(wsgi, _close, collector)
    return wsgi


class AsgiApp:
    """An ASGI app whose lifespan is the one of the exporter.

    Hosts do not run the lifespan of a mounted app: give them `lifespan` as their own, or enter it
    in theirs.  Without it, the exporter starts with the first scrape.
    """

    def __init__(
        self, new_collector: partial[Collector], settings: Settings, config: ReloadingConfig | None
    ) -> None:
        self._new_collector = new_collector
        self._settings = settings
        self._config = config
        self._open()

    def _open(self) -> None:
        self._collector = self._new_collector()
        self._finalizer = weakref.finalize(self, _close, self._collector)
        self._app = App(self._collector, self._settings, self.lifespan)
        self._http = (
            Authentication(self._app.asgi, self._config) if self._config else self._app.asgi
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, or the lifespan."""
        app = self._http if scope["type"] == "http" else self._app.asgi
        await app(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Receive task events from the start to the end of the host, then close the connections."""
        if not self._finalizer.alive:  # the host starts again in this process
            self._open()
        self._collector.start()
        try:
            yield
        finally:
            await self._app.stop(_STOP_GRACE)
            await in_thread(self._finalizer, "celery-vitals-stop")


def _close(collector: Collector) -> None:
    with suppress(RuntimeError):  # the interpreter starts no more threads
        collector.close(Deadline.after(_CLOSE_SECONDS))
