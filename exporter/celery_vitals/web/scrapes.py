"""One scrape: from the collectors to the bytes of the answer, in a thread, and only so many at once."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.registry import Collector as MetricSource

from celery_vitals.metrics.encoder import Encoder, generate
from celery_vitals.web.log_on_change import FaultLog
from celery_vitals.web.streaming import slices
from celery_vitals.web.threads import NoThread, in_thread

if TYPE_CHECKING:
    from celery_vitals.deadline import Deadline
    from celery_vitals.exporter import Collector
    from celery_vitals.settings import Settings

# Metrics are repetitive text, and shrink to a seventeenth; level 6 takes three times as long for a twentieth.
_GZIP_LEVEL = 1
_GZIP_FORMAT = 16 + zlib.MAX_WBITS


class Busy(Exception):
    """As many scrapes run as may run at once."""


class Stopping(Exception):
    """The server stops; the scrape is not waited for."""


@dataclass(frozen=True)
class Order:
    """What one request wants: `names` are collectors, None means all; `compress` means gzip."""

    deadline: Deadline
    names: Collection[str] | None
    encode: Encoder
    compress: bool


class Scrapes:
    """Runs scrapes of one collector and of the process itself."""

    def __init__(self, collector: Collector, settings: Settings) -> None:
        self._collector = collector
        self._own = {} if settings.web_disable_exporter_metrics else _own_sources()
        self._faults = FaultLog()
        self._places = threading.BoundedSemaphore(settings.web_max_requests)
        self._running: set[asyncio.Future[Sequence[bytes]]] = set()
        self.stopping = False

    async def run(self, order: Order) -> Sequence[bytes]:
        """The body of the answer, in parts.

        Raises Busy at once when no place is free, Stopping when the server stops.
        """
        if self.stopping:
            raise Stopping
        if not self._places.acquire(blocking=False):
            raise Busy
        # The place belongs to the thread, not to the request: a client that went away does not free it.
        scrape = asyncio.ensure_future(in_thread(partial(self._in_place, order), "scrape"))
        self._running.add(scrape)
        scrape.add_done_callback(self._running.discard)
        try:
            return await scrape
        except NoThread:
            self._places.release()
            raise Busy from None
        except asyncio.CancelledError:
            if self.stopping:
                raise Stopping from None
            raise

    async def stop(self, grace: float) -> None:
        """Start no more scrapes; wait up to `grace` seconds for those that run, then abandon them."""
        self.stopping = True
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for scrape in list(self._running):
            scrape.cancel()

    def _in_place(self, order: Order) -> Sequence[bytes]:
        try:
            return self._scrape(order)
        finally:
            self._places.release()

    def _scrape(self, order: Order) -> Sequence[bytes]:
        families = self._gather(
            "the scrape", partial(self._collector.scrape, order.deadline, order.names)
        )
        for name, source in self._own.items():
            families += self._gather(name, source.collect)
        parts = generate(families, order.encode, self._unwritable)
        return _compressed(parts) if order.compress else parts

    def _gather(self, what: str, collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
        """What `collect` yields; when it raises, what it had yielded so far."""
        families: list[Metric] = []
        try:
            for family in collect():
                families.append(family)
        except Exception as error:  # noqa: BLE001 - one collector never costs another one's samples
            self._faults.failed(what, error)
        else:
            self._faults.worked(what)
        return families

    def _unwritable(self, family: Metric, error: Exception) -> None:
        self._faults.failed(f"writing {family.name}", error)


def _compressed(parts: Iterable[bytes]) -> list[bytes]:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_FORMAT)
    return [*filter(None, map(packer.compress, slices(parts))), packer.flush()]


def _own_sources() -> dict[str, MetricSource]:
    """The collectors of process, platform and gc, by name.

    Each in a registry of its own: they cannot be built without one, and the global one belongs to others.
    """
    sources: dict[str, MetricSource] = {}
    for kind in (ProcessCollector, PlatformCollector, GCCollector):
        registry = CollectorRegistry()
        kind(registry=registry)
        sources[kind.__name__] = registry
    return sources
