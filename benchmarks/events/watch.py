"""Observe an exporter from outside: its counts, CPU time and memory."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil
from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import Self

from benchmarks.support.exporters import Exporter, Scrape

MB = 1024 * 1024
_QUIET = 0.05
"""CPU seconds per second below which an exporter is idle."""
_KINDS = ("sent", "received", "started", "succeeded", "failed")


def cpu_seconds(pid: int) -> float:
    """Return user and system CPU time of a process and its children."""
    process = psutil.Process(pid)
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
    ended = process.cpu_times()
    return total + ended.children_user + ended.children_system


def memory(pid: int) -> float:
    """Return resident memory in MB."""
    return float(psutil.Process(pid).memory_info().rss / MB)


def peak_memory(pid: int) -> float:
    """Return the peak of resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel reports no VmHWM")


def wait_quiet(pid: int, limit: float = 300.0) -> None:
    """Wait until a process has been idle for a second."""
    until = time.monotonic() + limit
    quiet = 0
    while quiet < 2:
        if time.monotonic() > until:
            raise RuntimeError(f"the exporter is still busy after {limit:g} s")
        before = cpu_seconds(pid)
        time.sleep(0.5)
        quiet = quiet + 1 if cpu_seconds(pid) - before < _QUIET / 2 else 0


def counted(page: Scrape) -> Counter[tuple[str, str, str]]:
    """Return the counted task events by type, task and queue."""
    names = {f"celery_task_{kind}_total": kind for kind in _KINDS}
    found: Counter[tuple[str, str, str]] = Counter()
    for family in text_string_to_metric_families(page.text):
        for sample in family.samples:
            kind = names.get(sample.name)
            if kind is not None:
                labels = sample.labels
                task, queue = (
                    labels.get("task") or labels["name"],
                    labels.get("queue") or labels["queue_name"],
                )
                found[kind, task, queue] += int(sample.value)
    return +found


class Scraper(threading.Thread):
    """Scrapes once a second with a timeout, as Prometheus does; a context manager."""

    def __init__(self, exporter: Exporter, deadline: float) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self.failed = 0
        self._exporter = exporter
        self._deadline = deadline
        self._stopping = threading.Event()

    def run(self) -> None:
        """Scrape until stopped."""
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                page = self._exporter.scrape(self._deadline)
                self.failed += page.status != 200
            except Exception:
                self.failed += 1
            self.seconds.append(time.monotonic() - started)
            self._stopping.wait(max(0.0, started + 1.0 - time.monotonic()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self.join()
