"""Metrics that the dashboards show and that this exporter does not have yet, and a target that makes them up.

Remove this file, and what imports it, as soon as the catalogue has them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.servers import HOST

LABELS: Mapping[str, tuple[str, ...]] = {
    "celery_worker_state": ("worker", "state"),
    "celery_worker_restarts_total": ("worker",),
    "celery_worker_instances": ("worker",),
    "celery_queue_length_limit": ("queue",),
    "celery_broker_delayed_messages": (),
    "celery_broker_orphaned_reply_queues": (),
}
STATES = ("up", "busy", "not_consuming", "stalled", "draining", "gone")


class MadeUp:
    """The samples of these metrics for some workers, whose states can be changed."""

    def __init__(self, workers: tuple[str, ...], limits: Mapping[str, int]) -> None:
        self.states = dict.fromkeys(workers, "up")
        self.limits = limits
        self.broker_up = True
        self.address = ""

    def text(self) -> str:
        """One scrape."""
        lines = []
        for worker, now in self.states.items():
            lines += [f'celery_worker_state{{worker="{worker}",state="{one}"}} {int(one == now)}' for one in STATES]
            lines += [f'celery_worker_restarts_total{{worker="{worker}"}} 0']
            lines += [f'celery_worker_instances{{worker="{worker}"}} 1']
        lines += [f'celery_queue_length_limit{{queue="{name}"}} {limit}' for name, limit in self.limits.items()]
        if self.broker_up:
            lines += ["celery_broker_delayed_messages 3", "celery_broker_orphaned_reply_queues 0"]
        return "\n".join(lines) + "\n"


@contextmanager
def made_up(workers: tuple[str, ...], limits: Mapping[str, int]) -> Iterator[MadeUp]:
    """Serves them at `address`."""
    samples = MadeUp(workers, limits)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = samples.text().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        samples.address = f"{HOST}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        thread.start()
        try:
            yield samples
        finally:
            server.shutdown()
            thread.join()
