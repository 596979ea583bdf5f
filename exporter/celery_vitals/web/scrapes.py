"""Scrapes: from collectors to the bytes of a response, in a limited number of threads."""

from __future__ import annotations

import asyncio
import math
import threading
import zlib
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.registry import Collector as MetricSource

from celery_vitals.metrics.encoder import Encoder, TextFamily, generate
from celery_vitals.web.log_on_change import FailureLog
from celery_vitals.web.streaming import slices
from celery_vitals.web.threads import NoThread, in_thread

if TYPE_CHECKING:
    from celery_vitals.deadline import Deadline
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

_T = TypeVar("_T")

# Metrics shrink to 1/17; level 6 takes three times as long for 1/20.
_GZIP_LEVEL = 1
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class Busy(Exception):
    """The limit of concurrent scrapes is reached."""


class Stopping(Exception):
    """The server is stopping; the scrape is abandoned."""


@dataclass(frozen=True)
class ScrapeRequest:
    """One request: `names` are the collectors to run, None means all; `compress` means gzip.

    Results up to `max_age` seconds old are reused.
    `scraper` identifies a Prometheus server, None stands for other clients.
    """

    deadline: Deadline
    names: Collection[str] | None
    max_age: float
    encode: Encoder
    content_type: str
    compress: bool
    scraper: Hashable | None = None


class Scrapes:
    """Runs scrapes of one collector and of the process itself."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._process = {} if settings.web_disable_exporter_metrics else _process_sources()
        self._failures = FailureLog()
        self._slots = threading.BoundedSemaphore(settings.web_max_requests)
        self._running: set[asyncio.Future[Any]] = set()
        self._shared: dict[Hashable, asyncio.Future[None]] = {}
        self.stopping = False

    async def run(self, request: ScrapeRequest) -> Sequence[bytes]:
        """Scrape, and return the body of the response in parts.

        Raises Busy immediately when no slot is free, and Stopping when the server stops.
        """
        if self.stopping:
            raise Stopping
        if not self._slots.acquire(blocking=False):
            raise Busy
        # The thread owns the slot, not the request: a disconnected client does not free it.
        scrape = self._start(partial(self._scrape_and_release, request))
        try:
            return await scrape
        except NoThread:
            self._slots.release()
            raise Busy from None
        except asyncio.CancelledError:
            if self.stopping:
                raise Stopping from None
            raise

    def run_here(self, request: ScrapeRequest) -> Sequence[bytes]:
        """Scrape in the thread of the caller.  Raises Busy immediately when no slot is free."""
        if not self._slots.acquire(blocking=False):
            raise Busy
        return self._scrape_and_release(request)

    async def refresh(self, max_age: float) -> None:
        """Run the collectors whose results are older than `max_age` seconds."""
        await self.share("refresh", partial(self._collector.refresh, max_age))

    async def share(self, key: Hashable, work: Callable[[], None]) -> None:
        """Do the work of a key in a thread, unless it is being done: then wait for its end.

        Concurrent callers share one thread, and a disconnected client does not stop it.
        """
        if self.stopping:
            return
        shared = self._shared.get(key)
        if shared is None or shared.done():
            shared = self._shared[key] = self._start(work)
        try:
            await asyncio.shield(shared)
        except NoThread:
            return  # the results of the last run remain
        except asyncio.CancelledError:
            if not self.stopping:
                raise

    def _start(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        task = asyncio.ensure_future(in_thread(work, "scrape"))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def stop(self, grace: float) -> None:
        """Reject new scrapes; wait up to `grace` seconds for running ones, then abandon them."""
        self.stopping = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for scrape in list(self._running):
            scrape.cancel()

    def _scrape_and_release(self, request: ScrapeRequest) -> Sequence[bytes]:
        try:
            return self._scrape(request)
        finally:
            self._slots.release()

    def _scrape(self, request: ScrapeRequest) -> Sequence[bytes]:
        families = self._gather(
            "scrape",
            partial(self._collector.scrape, request.deadline, request.names, request.max_age),
        )
        held_after = math.inf
        if request.scraper is not None:
            held_after = self._collector.births.scrape(request.scraper)
        for family in families:
            if isinstance(family, TextFamily):
                family.held_after = held_after
        for name, source in self._process.items():
            families += self._gather(name, source.collect)
        parts = generate(families, request.encode, self._encoding_failed)
        return _compressed(parts) if request.compress else parts

    def _gather(self, operation: str, collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
        """Return what `collect` yields; if it raises, what it yielded before."""
        families: list[Metric] = []
        try:
            for family in collect():
                families.append(family)
        except Exception as error:  # noqa: BLE001 - keep other samples
            self._failures.failed(operation, error)
        else:
            self._failures.succeeded(operation)
        return families

    def _encoding_failed(self, family: Metric, error: Exception) -> None:
        self._failures.failed(f"encoding {family.name}", error)


def _compressed(parts: Iterable[bytes]) -> list[bytes]:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    return [*filter(None, map(packer.compress, slices(parts))), packer.flush()]


def _process_sources() -> dict[str, MetricSource]:
    """Return prometheus_client's collectors of process, platform and gc, by name.

    Each has its own registry: they require one, and the global one belongs to the application.
    """
    sources: dict[str, MetricSource] = {}
    for kind in (ProcessCollector, PlatformCollector, GCCollector):
        registry = CollectorRegistry()
        kind(registry=registry)
        sources[kind.__name__] = registry
    return sources
