from __future__ import annotations

import io
import sys

import pytest

from celery_vitals.demo.scrape import ScrapeError, parse
from celery_vitals.demo.view import PlainView, open_view, queues, workers
from tests.support.demo_samples import GOOD


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_queue_without_consumers_is_highlighted() -> None:
    orders, reports = queues(parse(GOOD, 0.01))
    assert (orders.cells, orders.highlighted) == (("orders", "3", "1", ""), False)
    assert reports.cells[:3] == ("reports", "5", "0")
    assert "no consumers" in reports.cells[3]
    assert reports.highlighted


def test_unknown_is_not_zero() -> None:
    text = GOOD.replace('celery_queue_length{queue="reports"} 5\n', "").replace(
        "celery_broker_up 1\n", ""
    )
    reports = queues(parse(text, 0.01))[1]
    assert (reports.cells, reports.highlighted) == (("reports", "-", "0", ""), False)
    out = io.StringIO()
    PlainView(out).show(parse(text, 0.01))
    assert "broker unknown   result backend up   scrape 10 ms" in out.getvalue()


def test_a_worker_that_is_down_is_highlighted() -> None:
    text = GOOD.replace(
        'celery_worker_up{worker="media@demo"} 1', 'celery_worker_up{worker="media@demo"} 0'
    )
    media, orders = workers(parse(text, 0.01))
    assert (media.cells, media.highlighted) == (("media@demo", "DOWN", "threads", "4", "2"), True)
    assert (orders.cells, orders.highlighted) == (
        ("orders@demo", "up", "prefork", "3", "12"),
        False,
    )


def test_plain_lines_are_written_at_an_interval() -> None:
    out = io.StringIO()
    view = PlainView(out, every=60)
    view.show(ScrapeError("no response: refused"))
    view.show(parse(GOOD, 0.01))
    assert out.getvalue().endswith(" waiting for the first scrape\n")
    assert out.getvalue().count("\n") == 1


def test_a_later_failed_scrape_is_reported() -> None:
    out = io.StringIO()
    view = PlainView(out, every=0)
    view.show(parse(GOOD, 0.01))
    view.show(ScrapeError("no response: refused"))
    assert out.getvalue().endswith("scrape failed: no response: refused\n")


def test_a_pipe_gets_plain_lines() -> None:
    out = io.StringIO()
    with open_view(out) as view:
        view.show(parse(GOOD, 0.01))
    assert "  worker orders@demo: up, pool prefork, slots 3, accepted tasks 12\n" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_terminal_gets_a_table_that_updates_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    out = Terminal()
    with open_view(out) as view:
        view.show(ScrapeError("no response: refused"))
        view.show(parse(GOOD, 0.01))
        view.show(ScrapeError("no response: timed out"))
    assert "waiting for the first scrape" in out.getvalue()
    assert "│ orders@demo │ up │ prefork │     3 │             12 │" in out.getvalue()
    assert "scrape failed: no response: timed out" in out.getvalue()
    assert "\x1b[1A" in out.getvalue()  # cursor up: the new table replaces the previous one


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    out = Terminal()
    with open_view(out) as view:
        view.show(parse(GOOD, 0.01))
    assert "\x1b" not in out.getvalue()


def test_without_rich_plain_lines_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    out = Terminal()
    with open_view(out) as view:
        view.show(parse(GOOD, 0.01))
    assert out.getvalue().startswith("(install the package rich")
    assert "\x1b" not in out.getvalue()
