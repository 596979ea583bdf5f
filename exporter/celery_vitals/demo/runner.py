"""Runs the demo: a broker, the sample project's workers and beat, the exporter, and a scraper."""

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
from celery_vitals.demo.cluster import PROJECT, environment, start_beat, start_broker, start_workers
from celery_vitals.demo.processes import ProcessEndedError, Supervisor
from celery_vitals.demo.scrape import UNCONSUMED_QUEUE, Scrape, ScrapeError, fetch
from celery_vitals.demo.view import headline, open_view, queues, workers

PORT = 10818
BROKER_START_TIMEOUT_S = 15.0
ONCE_TIMEOUT_S = 60.0
SCRAPE_INTERVAL_S = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

INTRODUCTION = f"""\

Open      http://127.0.0.1:{{port}}/metrics   metrics for Prometheus
          http://127.0.0.1:{{port}}/          status page

Metrics to watch
  celery_queue_length                  `orders` grows and shrinks with each lunch rush (15 seconds)
  celery_queue_workers                 0 for `{UNCONSUMED_QUEUE}`: the queue has no consumers
  celery_worker_pool_slots             tasks that each worker can run at once: prefork 3, threads 4
  celery_worker_tasks_accepted_total   increases with each task; the application is unmodified

Press Ctrl-C to stop all processes and remove all files.
"""

Inbox = queue.SimpleQueue["Scrape | ScrapeError | signal.Signals"]


class StoppedError(Exception):
    """The demo was stopped by a signal."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"stopped by {number.name}")
        self.number = number


class ConditionTimeoutError(Exception):
    """A condition was not met in time; the message names it."""


def run(once: bool, stream: TextIO | None = None, *, broker: str | None = None) -> int:
    """Run the demo until a signal stops it; with `once`, until it has written one complete scrape.

    The output goes to `stream` (default: stdout); `broker` selects one of `brokers.KINDS`.  Returns
    the exit code: 0, or 1 when a process did not start, ended, or was not reachable in time.  No
    process and no file remains.  Call it in the main thread: it handles signals while it runs.
    """
    out = sys.stdout if stream is None else stream
    messages = sys.stderr if once else out
    inbox: Inbox = queue.SimpleQueue()
    with _signals_to(inbox):
        try:
            with Supervisor() as supervisor:
                port = _start(supervisor, inbox, messages, broker)
                (_print_once if once else _show)(supervisor, inbox, port, out)
        except StoppedError as stopped:
            _print(messages, str(stopped))
            return 128 + stopped.number if once else 0
        except (BrokerMissingError, ProcessEndedError, ConditionTimeoutError, OSError) as error:
            _print(messages, f"demo: {error}")
            return 1
    return 0


def _start(supervisor: Supervisor, inbox: Inbox, messages: TextIO, kind: str | None) -> int:
    """Start all processes; return the exporter's port."""
    broker, port = find(supervisor.folder, kind), free_port(PORT)
    _print(messages, "Starting a broker, two workers, beat and the exporter.")
    _print(messages, f"Broker    {broker.description}")
    if port != PORT:
        _print(messages, f"Port {PORT} is in use; the exporter listens on {port}.")
    env = environment(broker, supervisor.folder)
    start_broker(supervisor, broker, env)
    if broker.port:
        _await_port(supervisor, inbox, broker.port)
    start_workers(supervisor, env)
    start_beat(supervisor, env)
    serve = (sys.executable, "-m", "celery_vitals", "serve", "--app", f"{PROJECT}:app")
    supervisor.start("exporter", (*serve, "--web.listen-address", f"127.0.0.1:{port}"), env)
    return port


def _await_port(supervisor: Supervisor, inbox: Inbox, port: int) -> None:
    deadline = Deadline.after(BROKER_START_TIMEOUT_S)
    while not deadline.passed:
        _check(supervisor, inbox)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        _receive(inbox, 0.05)
    raise ConditionTimeoutError(
        f"the broker does not listen on port {port} after {BROKER_START_TIMEOUT_S:.0f} s"
    )


def _show(supervisor: Supervisor, inbox: Inbox, port: int, out: TextIO) -> None:
    """Show scrape after scrape, until an exception ends it."""
    _print(out, INTRODUCTION.format(port=port))
    with open_view(out) as view, _scraping(port, inbox):
        while True:
            _check(supervisor, inbox)
            if result := _receive(inbox, 0.5):
                view.show(result)


def _print_once(supervisor: Supervisor, inbox: Inbox, port: int, out: TextIO) -> None:
    """Write the first complete scrape.  Raises `ConditionTimeoutError` without one in time."""
    deadline, missing = Deadline.after(ONCE_TIMEOUT_S), ["no scrape"]
    with _scraping(port, inbox):
        while not deadline.passed:
            _check(supervisor, inbox)
            result = _receive(inbox, min(0.5, deadline.remaining))
            if isinstance(result, Scrape):
                if not (missing := result.missing()):
                    out.write(result.celery_text)
                    out.flush()
                    _print(sys.stderr, _summary(result))
                    return
            elif result:
                missing = [str(result)]
    raise ConditionTimeoutError(
        f"no complete scrape within {ONCE_TIMEOUT_S:.0f} s: {'; '.join(missing)}"
    )


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
    """Scrape in a thread, so that a slow response delays neither the table nor Ctrl-C."""
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            try:
                inbox.put(fetch(port))
            except ScrapeError as error:
                inbox.put(error)
            done.wait(SCRAPE_INTERVAL_S)

    threading.Thread(target=scrape, name="demo-scrape", daemon=True).start()
    try:
        yield
    finally:
        done.set()


@contextlib.contextmanager
def _signals_to(inbox: Inbox) -> Iterator[None]:
    """Put signals into the inbox of the main loop; ignored signals (nohup) stay ignored."""
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
    """Return the next scrape, None after this time.  Raises `StoppedError` for a signal."""
    with contextlib.suppress(queue.Empty):
        item = inbox.get(timeout=seconds)
        if isinstance(item, signal.Signals):
            raise StoppedError(item)
        return item
    return None


def _check(supervisor: Supervisor, inbox: Inbox) -> None:
    """Raise `ProcessEndedError` when a child process has ended.

    A pending `StoppedError` takes precedence: Ctrl-C also reaches a child process that was just
    started and has no session of its own yet.
    """
    try:
        supervisor.check()
    except ProcessEndedError:
        while _receive(inbox, 0.1):
            pass
        raise


def _print(stream: TextIO, text: str) -> None:
    """Write a message; ignore a closed terminal."""
    with contextlib.suppress(OSError):
        stream.write(text + "\n")
        stream.flush()
