"""A running server in a thread, on a free port."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import pytest
import urllib3

from celery_vitals.exporter import Collector
from celery_vitals.settings import Address, Settings
from celery_vitals.web.server import WebServer
from tests.support.web_fakes import FakeCollector


class Running:
    """A running server with its collector, its URL and a client."""

    def __init__(self, collector: FakeCollector, settings: Settings) -> None:
        self.collector = collector
        self.server = WebServer(cast(Collector, collector), settings)
        self.url = self.server.urls[0]
        self.pool = urllib3.PoolManager(retries=False, timeout=10)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self.thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        self.server.run(lambda _: self._ready.set())

    def get(self, path: str, method: str = "GET", **options: Any) -> urllib3.BaseHTTPResponse:
        return self.pool.request(method, self.url + path, **options)

    def close(self) -> None:
        self.collector.go.set()
        self.collector.go_refresh.set()
        self.server.stop()
        self.thread.join(5)
        self.pool.clear()
        assert not self.thread.is_alive()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers with the given settings, which stop after the test."""
    with ExitStack() as stack:

        def one(collector: FakeCollector | None = None, **options: Any) -> Running:
            options.setdefault("web_listen_address", (Address("127.0.0.1", 0),))
            running = Running(collector or FakeCollector(), Settings(**options))
            stack.callback(running.close)
            return running

        yield one
