"""Runs the demo: a broker, the sample project's workers and beat, the exporter, and someone who scrapes it."""

from __future__ import annotations

import contextlib
import queue
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

from celery_vitals.deadline import Deadline
from celery_vitals.demo.brokers import BrokerMissingError, find, free_port
from celery_vitals.demo.children import ChildDiedError, Household
from celery_vitals.demo.cluster import PROJECT, environment, start_beat, start_broker, start_workers
from celery_vitals.demo.scrape import UNSERVED_QUEUE, Scrape, ScrapeError, fetch
from celery_vitals.demo.view import headline, open_view, queues, workers

PORT = 10818
BROKER_START_S = 15.0
ONCE_WITHIN_S = 60.0
SCRAPE_EVERY_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

LOOK_FOR = f"""\

Open      http://127.0.0.1:{{port}}/metrics   what Prometheus scrapes
          http://127.0.0.1:{{port}}/          the same in words

Look for
  celery_queue_length                  every 15 seconds the lunch rush makes `orders` grow, and then shrink
  celery_queue_workers                 0 for `{UNSERVED_QUEUE}`: nobody serves that queue, and it only grows
  celery_worker_pool_slots             how many tasks each worker can run at once: prefork 3, threads 4
  celery_worker_tasks_accepted_total   rises with each task, though the application was not changed

Ctrl-C stops everything and leaves nothing.
"""

Inbox = queue.SimpleQueue["Scrape | ScrapeError | signal.Signals"]


class StoppedError(Exception):
    """Someone asked the demo to stop."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.number = number


class NotReachedError(Exception):
    """Something did not happen in time; the message says what."""


def run(once: bool, stream: TextIO | None = None, *, broker: str | None = None) -> int:
    """Run the demo until it is stopped; with `once`, until one good scrape is written to `stream` (default: stdout).

    `broker` forces one of `brokers.KINDS`.  Returns the exit code: 0, or 1 when something did not start, died or was
    not reached.  No process and no file is left.  To be called in the main thread: it handles signals while it runs.
    """
    out = sys.stdout if stream is None else stream
    words = sys.stderr if once else out
    inbox: Inbox = queue.SimpleQueue()
    with _signals_to(inbox):
        try:
            with Household() as household:
                port = _start(household, inbox, words, broker)
                (_print_once if once else _show)(household, inbox, port, out)
        except StoppedError as stopped:
            _say(words, str(stopped))
            return 128 + stopped.number if once else 0
        except (BrokerMissingError, ChildDiedError, NotReachedError, OSError) as error:
            _say(words, f"demo: {error}")
            return 1
    return 0


def _start(household: Household, inbox: Inbox, words: TextIO, kind: str | None) -> int:
    """Start everything; returns the exporter's port."""
    broker, port = find(household.folder, kind), free_port(PORT)
    _say(words, f"Starting a broker, two workers, beat and the exporter.\nBroker    {broker.words}")
    if port != PORT:
        _say(words, f"Port {PORT} is taken; the exporter listens on {port}.")
    env = environment(broker, household.folder)
    start_broker(household, broker, env)
    if broker.port:
        _await_port(household, inbox, broker.port)
    start_workers(household, env)
    start_beat(household, env)
    serve = (sys.executable, "-m", "celery_vitals", "serve", "--app", f"{PROJECT}:app")
    household.start("exporter", (*serve, "--web.listen-address", f"127.0.0.1:{port}"), env)
    return port


def _await_port(household: Household, inbox: Inbox, port: int) -> None:
    deadline = Deadline.after(BROKER_START_S)
    while not deadline.passed:
        _check(household, inbox)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        _receive(inbox, 0.05)
    raise NotReachedError(f"the broker did not listen on port {port} within {BROKER_START_S:.0f} s")


def _show(household: Household, inbox: Inbox, port: int, out: TextIO) -> None:
    """Show scrape after scrape; ends by an exception."""
    _say(out, LOOK_FOR.format(port=port))
    with open_view(out) as view, _scraping(port, inbox):
        while True:
            _check(household, inbox)
            if result := _receive(inbox, 0.5):
                view.show(result)


def _print_once(household: Household, inbox: Inbox, port: int, out: TextIO) -> None:
    """Write the first good scrape.  Raises `NotReachedError` when there is none in time."""
    deadline, missing = Deadline.after(ONCE_WITHIN_S), ["nothing was scraped"]
    with _scraping(port, inbox):
        while not deadline.passed:
            _check(household, inbox)
            result = _receive(inbox, min(0.5, deadline.remaining))
            if isinstance(result, Scrape):
                if not (missing := result.missing()):
                    out.write(result.celery_text)
                    out.flush()
                    _say(sys.stderr, _summary(result))
                    return
            elif result:
                missing = [str(result)]
    raise NotReachedError(f"no good scrape within {ONCE_WITHIN_S:.0f} s: {'; '.join(missing)}")


def _summary(scrape: Scrape) -> str:
    lines = [headline(scrape)]
    lines += [
        "worker {} {}: pool {}, slots {}, accepted tasks {}".format(*row.cells)
        for row in workers(scrape)
    ]
    lines += [
        "queue {}: messages {}, workers {}  {}".format(*row.cells).rstrip()
        for row in queues(scrape)
    ]
    return "\n".join(lines)


@contextlib.contextmanager
def _scraping(port: int, inbox: Inbox) -> Iterator[None]:
    """Scrape in the background, so that a slow answer delays neither the table nor Ctrl-C."""
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            try:
                inbox.put(fetch(port))
            except ScrapeError as error:
                inbox.put(error)
            done.wait(SCRAPE_EVERY_S)

    threading.Thread(target=scrape, name="demo-scrape", daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextlib.contextmanager
def _signals_to(inbox: Inbox) -> Iterator[None]:
    """Signals go into the inbox, where the main loop finds them; what was ignored before (nohup) stays ignored."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda got, _frame: inbox.put(signal.Signals(got)))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _receive(inbox: Inbox, seconds: float) -> Scrape | ScrapeError | None:
    """The next scrape, None when there is none in this time.  Raises `StoppedError` for a signal."""
    with contextlib.suppress(queue.Empty):
        item = inbox.get(timeout=seconds)
        if isinstance(item, signal.Signals):
            raise StoppedError(item)
        return item
    return None


def _check(household: Household, inbox: Inbox) -> None:
    """Raise `ChildDiedError` when a child has ended.

    `StoppedError` goes before it: Ctrl-C also reaches a child that is so young that it has no session of its own yet.
    """
    try:
        household.check()
    except ChildDiedError:
        while _receive(inbox, 0.1):
            pass
        raise


def _say(stream: TextIO, words: str) -> None:
    """Write a line for people; a terminal that is gone is no reason to fail."""
    with contextlib.suppress(OSError):
        stream.write(words + "\n")
        stream.flush()
