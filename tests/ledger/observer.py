"""The exporter as the tests of the ledger read it: its counters and its cases."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from typing_extensions import Self

from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.servers import Broker, wait_for

from .truth import WORKER_TIMEOUT, Gap

EVERY = 1.0


@dataclass(frozen=True)
class SeenCase:
    """One case, as `/lost` listed it last."""

    kind: str
    uuid: str
    task: str
    worker: str
    started: str
    decided: str
    reason: str
    evidence: str
    found: bool


class Observer:
    """An exporter, scraped every second; `/lost` has its last 1,000 cases, which are kept."""

    def __init__(self, broker: Broker, *arguments: str) -> None:
        timeout = ("--worker-timeout", f"{WORKER_TIMEOUT:g}")
        self._exporter = Exporter.of(broker, "--no-collector.backend", *timeout, *arguments)
        self._cases: dict[tuple[str, ...], SeenCase] = {}
        self.up = False
        """Whether the event stream is up."""
        self.scrape = Scrape(200, "", 0.0)
        self._looks = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            with suppress(OSError, ValueError, urllib3.exceptions.HTTPError):
                self._look()
            self._stopping.wait(max(0.05, EVERY - (time.monotonic() - began)))

    def _look(self) -> None:
        scrape = self._exporter.scrape()
        listed = json.loads(self._exporter.get("/lost")[1])
        for one in listed["cases"]:
            self._keep(one)
        self.up = scrape.value("celery_exporter_event_stream_up") == 1
        self.scrape = scrape
        self._looks += 1

    def _keep(self, one: dict[str, Any]) -> None:
        kind, uuid, task, worker, started, decided, reason, evidence = (
            one[name] or ""
            for name in ("kind", "id", "task", "worker", "started", "decided", "reason", "evidence")
        )
        found = one["found"]
        case = SeenCase(kind, uuid, task, worker, started, decided, reason, evidence, found)
        self._cases[case.kind, case.uuid, case.worker, case.started, case.decided] = case

    @property
    def cases(self) -> list[SeenCase]:
        """All cases so far."""
        return list(self._cases.values())

    @property
    def log(self) -> str:
        """What the exporter has written."""
        return self._exporter.log

    def write_log(self, path: Path) -> None:
        """Keep its log and its last scrape, for a failure that is looked into later."""
        path.write_text(f"{self.log}\n{self.scrape.text}")

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a metric in the last scrape."""
        return self.scrape.total(f"celery_{name}", **labels)

    def look_again(self, times: int = 2) -> None:
        """Wait for so many scrapes that begin after this call."""
        until = self._looks + times + 1
        wait_for(lambda: self._looks >= until, 60.0, what="scrapes", interval=0.1)

    def gap_since(self, since: float, timeout: float = 60.0) -> Gap:
        """Wait until heartbeats arrive after a restart; return when events may be missing."""
        self.look_again(1)
        before = self._heartbeats()
        wait_for(
            lambda: self.up and self._heartbeats() > before,
            timeout,
            what="heartbeats arrive again",
            interval=0.1,
        )
        return Gap(since - 1.0, time.time() + 1.0)

    def _heartbeats(self) -> float:
        return self.total("exporter_events_received_total", type="worker-heartbeat")

    def wait_settled(self, timeout: float) -> None:
        """Wait until the exporter tracks no task that has not ended."""

        def settled() -> bool:
            names = ("task_in_flight", "task_orphaned", "task_running")
            left = {name: self.total(name) for name in names}
            assert not any(left.values()), left
            return True

        self.look_again()
        wait_for(settled, timeout, what="all tasks decided", interval=0.5)

    def __enter__(self) -> Self:
        self._exporter.__enter__()
        try:
            self._thread.start()
            wait_for(lambda: self.up, 30.0, what="the event stream up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(15.0)
        self._exporter.__exit__(None, None, None)
