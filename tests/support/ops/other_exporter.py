"""danihodovic/celery-exporter beside celery-vitals: one cluster, three jobs of one Prometheus."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from benchmarks.support.exporters import Peer, install_peer
from benchmarks.support.servers import Broker as PeerBroker

from tests.support.exporter import Exporter
from tests.support.ops.rules import ROOT, groups
from tests.support.servers import Broker, PrometheusServer, Publisher, Worker, wait_for

EXAMPLE = ROOT / "examples" / "prometheus" / "compat.yml"
NATIVE, COMPAT, OTHER = "vitals", "celery-exporter", "other-celery-exporter"
INTERVAL = 4.0
"""Seconds: the other exporter takes more than two for a scrape."""
BUCKETS = "0.005,0.01,0.025,0.05,0.075,0.1,0.25,0.5,0.75,1,2.5,5,7.5,10"
WORKERS = {"a@one": "orders", "b@two": "mail", "c@three": "images"}
BACKLOG = 120
FIRST = {"add": 1, "fail": 1, "sleep": 1}
"""Tasks that Prometheus has seen before the others are sent."""
SENT = {"add": 30, "fail": 10, "sleep": 20}
TOTAL = sum(FIRST.values()) + sum(SENT.values())

# What the dashboards of the other exporter select; JOB stands for the chosen job.
PANELS = {
    "workers": "count(celery_worker_up{job=~JOB} == 1)",
    "active tasks": "sum(celery_worker_tasks_active{job=~JOB})",
    "queue lengths": "sum by (queue_name) (celery_queue_length{job=~JOB})",
    "worker processes": "sum by (queue_name) (celery_active_process_count{job=~JOB})",
    "workers by queue": "sum by (queue_name) (celery_active_worker_count{job=~JOB})",
    "received": "sum(round(increase(celery_task_received_total{job=~JOB}[1w])))",
    "sent": 'sum(round(increase(celery_task_sent_total{job=~JOB,queue_name=~"mail|orders"}[1w])))',
    "success ratio": (
        "sum(increase(celery_task_succeeded_total{job=~JOB}[1w])) / ("
        "sum(increase(celery_task_succeeded_total{job=~JOB}[1w]))"
        " + sum(increase(celery_task_failed_total{job=~JOB}[1w])))"
    ),
    "failures by task": "sum by (name) (increase(celery_task_failed_total{job=~JOB}[1w]) > 0)",
    "exceptions": "sum by (exception) (increase(celery_task_failed_total{job=~JOB}[1w])) > 0",
    "mean runtime": (
        "sum by (name) (rate(celery_task_runtime_sum{job=~JOB}[1w]))"
        " / sum by (name) (rate(celery_task_runtime_count{job=~JOB}[1w])) > 0"
    ),
    "runtime quantile": (
        "histogram_quantile(0.9,"
        " sum by (name, le) (rate(celery_task_runtime_bucket{job=~JOB}[1w])))"
    ),
}
# The conditions of its alerts, which select every job with this part in its name.
ALERT_JOBS = '".*celery.*"'
ALERTS = {
    "task fails": (
        "sum by (job, queue_name, name) (increase(celery_task_failed_total{job=~JOB}[10m]))"
        " / (sum by (job, queue_name, name) (increase(celery_task_failed_total{job=~JOB}[10m]))"
        " + sum by (job, queue_name, name) (increase(celery_task_succeeded_total{job=~JOB}[10m])))"
        " * 100 > 5"
    ),
    "queue is long": (
        'sum by (job, queue_name) (celery_queue_length{job=~JOB,queue_name!~"None"}) > 100'
    ),
    "worker is down": "celery_worker_up{job=~JOB} == 0",
}
Answer = dict[tuple[tuple[str, str], ...], float]


@dataclass(frozen=True)
class Both:
    """The cluster, and Prometheus with the two exporters in three jobs."""

    prometheus: PrometheusServer
    workers: dict[str, Worker]

    def ask(self, query: str, job: str, at: float | None = None) -> Answer:
        """Return the values of a query for a job, by labels without those of the exporter."""
        time = {} if at is None else {"time": str(at)}
        rows = self.prometheus.query(query.replace("JOB", f'"{job}"'), **time)
        return {
            tuple(sorted((key, value) for key, value in labels.items() if key not in OWN)): value
            for labels, value in rows
        }


OWN = ("__name__", "job", "instance", "hostname")


def jobs(ours: str, other: str) -> list[dict[str, Any]]:
    """Return the scrape configs of the example for these addresses, and one of the other."""
    found: list[dict[str, Any]] = yaml.safe_load(EXAMPLE.read_text())["scrape_configs"]
    found.append({"job_name": OTHER, "static_configs": [{"targets": [other]}]})
    for job in found:
        job.pop("scrape_interval", None)
        job.pop("scrape_timeout", None)
        if job["job_name"] != OTHER:
            job["static_configs"] = [{"targets": [ours]}]
    return found


@contextmanager
def both(broker: Broker) -> Iterator[Both]:
    """Start workers and both exporters; send tasks and wait until Prometheus has all of them."""
    try:
        install_peer()
    except subprocess.CalledProcessError:
        pytest.fail("the other exporter cannot be installed from the package index", pytrace=False)
    kind = re.split(r"\W", broker.url)[0]
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(worker(broker, name, queue))
            for name, queue in WORKERS.items()
        }
        peer = Peer(PeerBroker(kind, broker.url, broker.backend_url), "-Q", "reports")
        stack.callback(peer.close)
        peer.start()
        exporter = Exporter.of(broker, "--queue", "reports", "--runtime-buckets", BUCKETS)
        ours = urlsplit(stack.enter_context(exporter).address).netloc
        native, *rest = jobs(ours, urlsplit(peer.address).netloc)
        prometheus = stack.enter_context(
            PrometheusServer(
                [ours], interval=INTERVAL, job=native["job_name"], jobs=rest, rules=groups()
            )
        )
        found = Both(prometheus, workers)
        publisher = stack.enter_context(Publisher(broker, {"task_send_sent_event": True}))
        send(publisher, FIRST)
        wait_total(found, sum(FIRST.values()))
        send(publisher, SENT)
        publisher.send("add", 1, 2, queue="reports", count=BACKLOG)
        wait_total(found, TOTAL)
        # increase() extrapolates by up to one interval, which is much of a short time.
        samples = "min(count_over_time(celery_task_started_total{job=~JOB}[1h])) >= bool 12"
        for job in (COMPAT, OTHER):
            wait_for(partial(reached, found, samples, job, 1), 120, interval=1.0)
        yield found


def worker(broker: Broker, name: str, queue: str) -> Worker:
    """Return a worker of one queue that sends events."""
    options = ("--heartbeat-interval", "1")
    return Worker(
        broker, "prefork", name, queues=(queue,), concurrency=2, events=True, args=options
    )


def send(publisher: Publisher, counts: dict[str, int]) -> None:
    """Send tasks to the queues of the workers."""
    publisher.send("add", 1, 2, queue="orders", count=counts["add"])
    publisher.send("fail", queue="orders", count=counts["fail"])
    publisher.send("sleep", 0.2, queue="mail", count=counts["sleep"])


def wait_total(found: Both, total: int) -> None:
    """Wait until both exporters have counted the end of all tasks in two scrapes."""
    ended = (
        "sum(min_over_time(celery_task_succeeded_total{job=~JOB}[SPAN]))"
        " + sum(min_over_time(celery_task_failed_total{job=~JOB}[SPAN]))"
    ).replace("SPAN", f"{INTERVAL * 2:g}s")
    for job in (COMPAT, OTHER):
        wait_for(partial(reached, found, ended, job, total), 90, interval=1.0)


def reached(found: Both, query: str, job: str, value: float) -> bool:
    """Return whether a query without labels has a value for a job."""
    return found.ask(query, job) == {(): value}
