"""The output of the demo: a table that updates in place, or plain lines without a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from celery_vitals.demo.scrape import Scrape, ScrapeError
from celery_vitals.settings.terminal import moves_cursor

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

PLAIN_EVERY_S = 5.0
WORKER_COLUMNS = ("worker", "up", "pool", "slots", "accepted tasks")
QUEUE_COLUMNS = ("queue", "messages", "workers", "")
WAITING = "waiting for the first scrape"
NO_CONSUMERS = "no consumers: no worker was started with -Q {}; the queue grows without an error"


class View(Protocol):
    """Shows successive scrapes."""

    def show(self, result: Scrape | ScrapeError) -> None:
        """Show the latest scrape or its error.  Raises OSError when the terminal is closed."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    highlighted: bool = False


@contextlib.contextmanager
def open_view(stream: TextIO) -> Iterator[View]:
    """Open a live table if `stream` is a terminal and rich is installed; else plain lines."""
    if stream.isatty() and moves_cursor():
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            stream.write("(install the package rich for a table that updates in place)\n\n")
        else:
            with Live(console=Console(file=stream), auto_refresh=False) as live:
                yield _LiveView(live.update)
            return
    yield PlainView(stream)


class PlainView:
    """Plain lines at an interval."""

    def __init__(self, stream: TextIO, every: float = PLAIN_EVERY_S) -> None:
        self._stream, self._every, self._next = stream, every, 0.0
        self._scraped = False

    def show(self, result: Scrape | ScrapeError) -> None:
        """Write the lines if the interval has passed."""
        self._scraped = self._scraped or isinstance(result, Scrape)
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        lines = [time.strftime("%H:%M:%S ") + (headline(result) if self._scraped else WAITING)]
        if isinstance(result, Scrape):
            lines += [
                "  worker {}: {}, pool {}, slots {}, accepted tasks {}".format(*r.cells)
                for r in workers(result)
            ]
            lines += [
                "  queue {}: messages {}, workers {}  {}".format(*r.cells).rstrip()
                for r in queues(result)
            ]
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()


class _Update(Protocol):
    def __call__(self, renderable: Group, *, refresh: bool) -> None: ...


class _LiveView:
    def __init__(self, update: _Update) -> None:
        self._update = update
        self._last: Scrape | None = None

    def show(self, result: Scrape | ScrapeError) -> None:
        from rich.console import Group
        from rich.text import Text

        self._last = result if isinstance(result, Scrape) else self._last
        waiting = isinstance(result, ScrapeError) and self._last is None
        style = "bold" if waiting or isinstance(result, Scrape) else "bold red"
        parts: list[Text | Table] = [Text(WAITING if waiting else headline(result), style=style)]
        if self._last:
            parts += [
                _table(WORKER_COLUMNS, workers(self._last)),
                _table(QUEUE_COLUMNS, queues(self._last)),
            ]
        self._update(Group(*parts), refresh=True)


def headline(result: Scrape | ScrapeError) -> str:
    """Return the state of broker and result backend, and the duration of the scrape."""
    if isinstance(result, ScrapeError):
        return f"scrape failed: {result}"
    broker, backend = (
        _state(result.value("celery_broker_up")),
        _state(result.value("celery_result_backend_up")),
    )
    return f"broker {broker}   result backend {backend}   scrape {result.seconds * 1000:.0f} ms"


def workers(scrape: Scrape) -> list[Row]:
    """Return a row for each worker of the scrape."""
    up = scrape.by("celery_worker_up", "worker")
    info = scrape.info("celery_worker_info", "worker")
    slots = scrape.by("celery_worker_pool_slots", "worker")
    accepted = scrape.by("celery_worker_tasks_accepted_total", "worker")
    return [
        Row(
            (
                name,
                _state(value),
                info.get(name, {}).get("pool", "-"),
                _number(slots, name),
                _number(accepted, name),
            ),
            highlighted=value != 1,
        )
        for name, value in sorted(up.items())
    ]


def queues(scrape: Scrape) -> list[Row]:
    """Return a row for each queue, with a remark if messages wait without consumers."""
    length = scrape.by("celery_queue_length", "queue")
    consumers = scrape.by("celery_queue_workers", "queue")
    rows = []
    for name in sorted(length.keys() | consumers.keys()):
        unconsumed = consumers.get(name) == 0 and length.get(name, 0) > 0
        remark = NO_CONSUMERS.format(name) if unconsumed else ""
        rows.append(
            Row(
                (name, _number(length, name), _number(consumers, name), remark),
                highlighted=unconsumed,
            )
        )
    return rows


def _state(value: float | None) -> str:
    return "unknown" if value is None else "up" if value == 1 else "DOWN"


def _number(values: dict[str, float], key: str) -> str:
    return f"{values[key]:.0f}" if key in values else "-"


def _table(columns: tuple[str, ...], rows: list[Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(expand=False)
    for column in columns:
        number = column in ("slots", "accepted tasks", "messages", "workers")
        table.add_column(column, justify="right" if number else "left", no_wrap=bool(column))
    for row in rows:
        table.add_row(
            *(Text(cell) for cell in row.cells), style="bold red" if row.highlighted else ""
        )
    return table
