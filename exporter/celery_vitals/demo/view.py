"""What the demo shows: a table that updates in place, or plain lines where there is no terminal for it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

from celery_vitals.demo.scrape import Scrape, ScrapeError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

PLAIN_EVERY_S = 5.0
WORKER_COLUMNS = ("worker", "up", "pool", "slots", "accepted tasks")
QUEUE_COLUMNS = ("queue", "messages", "workers", "")
WAITING = "waiting for the first scrape"
NOBODY = "nobody serves this queue: no worker was started with -Q {}. Nothing fails, it only grows"


class View(Protocol):
    """Shows one scrape after the other."""

    def show(self, result: Scrape | ScrapeError) -> None:
        """Show the newest scrape, or why there is none.  Raises OSError when the terminal is gone."""


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    cells: tuple[str, ...]
    alarming: bool = False


@contextlib.contextmanager
def open_view(stream: TextIO) -> Iterator[View]:
    """A live table if `stream` is a terminal that can, and rich is installed; else plain lines."""
    if stream.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown"):
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            stream.write(
                "(with the package rich installed, this is a table that updates in place)\n\n"
            )
        else:
            with Live(console=Console(file=stream), auto_refresh=False) as live:
                yield _LiveView(live.update)
            return
    yield PlainView(stream)


class PlainView:
    """A few lines, now and then."""

    def __init__(self, stream: TextIO, every: float = PLAIN_EVERY_S) -> None:
        self._stream, self._every, self._next = stream, every, 0.0
        self._scraped = False

    def show(self, result: Scrape | ScrapeError) -> None:
        """Write the lines when it is time again."""
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
    """Broker, result backend, and how long the scrape took."""
    if isinstance(result, ScrapeError):
        return f"no scrape: {result}"
    broker, backend = (
        _state(result.value("celery_broker_up")),
        _state(result.value("celery_result_backend_up")),
    )
    return f"broker {broker}   result backend {backend}   scrape {result.seconds * 1000:.0f} ms"


def workers(scrape: Scrape) -> list[Row]:
    """A row for each worker that the exporter knows."""
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
            alarming=value != 1,
        )
        for name, value in sorted(up.items())
    ]


def queues(scrape: Scrape) -> list[Row]:
    """A row for each queue that the exporter knows; one that holds messages and has no worker is explained."""
    length = scrape.by("celery_queue_length", "queue")
    served = scrape.by("celery_queue_workers", "queue")
    rows = []
    for name in sorted(length.keys() | served.keys()):
        alone = served.get(name) == 0 and length.get(name, 0) > 0
        note = NOBODY.format(name) if alone else ""
        rows.append(Row((name, _number(length, name), _number(served, name), note), alarming=alone))
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
        table.add_row(*(Text(cell) for cell in row.cells), style="bold red" if row.alarming else "")
    return table
