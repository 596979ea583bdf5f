"""The whole exposition in four states of a real cluster, compared with the files beside this one.

A change of a name, a label or a help text shows in these files.  `make golden` rewrites them.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.exporter import Exporter
from tests.support.servers import Broker, RedisServer, Worker, promtool, publish, wait_for

HERE = Path(__file__).parent
STATES = ("healthy", "broker_down", "backend_down", "no_workers")

# Values that differ between runs and machines; they are written as 0.
VOLATILE = (
    "celery_scrape_timeout_seconds",
    "celery_probe_failures_total",
    "celery_broker_memory_used_bytes",
    "celery_scrape_collector_duration_seconds",
    "celery_probe_last_success_timestamp_seconds",
    "celery_worker_reply_seconds",
    "celery_worker_last_seen_timestamp_seconds",
    "celery_worker_start_timestamp_seconds",
    "celery_worker_cpu_seconds_total",
    "celery_worker_max_resident_memory_bytes",
    "celery_worker_clock_offset_seconds",
    "celery_exporter_event_lag_seconds",
    "celery_exporter_events_received_total",
    "celery_task_last_succeeded_timestamp_seconds",
    "celery_task_runtime_seconds_bucket",
    "celery_task_runtime_seconds_sum",
)


@pytest.fixture(scope="module")
def expositions() -> Iterator[dict[str, str]]:
    """The exposition in each state."""
    texts: dict[str, str] = {}
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        results = stack.enter_context(RedisServer())
        broker = Broker("redis", redis.url, results.url, redis)
        publish(broker, "add", 1, 2, queue="unserved", count=2)
        exporter = stack.enter_context(Exporter.of(broker, "--web.disable-exporter-metrics"))
        texts["no_workers"] = settled(exporter)
        stack.enter_context(Worker(broker, "prefork", "prefork@golden", events=True))
        publish(broker, "add", 1, 2, count=3)
        wait_for(
            lambda: (
                exporter.scrape().value("celery_worker_processed_total", worker="prefork@golden")
                == 3
            )
        )
        task = {"task": "project.add", "queue": "celery"}
        wait_for(lambda: exporter.scrape().value("celery_task_succeeded_total", **task) == 3)
        texts["healthy"] = settled(exporter)
        results.kill()
        texts["backend_down"] = settled(exporter)
        results.start()
        wait_for(lambda: exporter.scrape().value("celery_result_backend_up") == 1)
        # A new process: failures are counted since its start, and this state has only its own.
        other = stack.enter_context(Exporter.of(broker, "--web.disable-exporter-metrics"))
        settled(other)
        redis.kill()
        wait_for(lambda: other.scrape().value("celery_exporter_event_stream_up") == 0)
        texts["broker_down"] = other.scrape().text
        yield texts


def settled(exporter: Exporter) -> str:
    """Return the exposition once the event stream is live and the workers are known."""

    def complete() -> bool:
        scrape = exporter.scrape()
        workers = scrape.by("worker", "celery_worker_up")
        beats = {
            dict(labels).get("source")
            for labels in scrape.series("celery_worker_last_seen_timestamp_seconds")
        }
        return scrape.value("celery_exporter_event_stream_up") == 1 and (
            not workers or "heartbeat" in beats
        )

    wait_for(complete)
    return exporter.scrape().text


def masked(text: str) -> str:
    """Return the text without the parts that differ between runs."""
    text = re.sub(
        rf"^((?:{'|'.join(VOLATILE)})(?:{{[^}}]*}})?) .*$", r"\1 0.0", text, flags=re.MULTILINE
    )
    return re.sub(
        r"(celery_exporter_build_info{).*(})", r'\1celery="",kombu="",python="",version=""\2', text
    )


@pytest.mark.parametrize("state", STATES)
def test_exposition_equals_golden_file(state: str, expositions: dict[str, str]) -> None:
    golden, text = HERE / f"{state}.prom", masked(expositions[state])
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("state", STATES)
def test_promtool_check_metrics_passes(state: str, expositions: dict[str, str]) -> None:
    check = subprocess.run(
        [promtool(), "check", "metrics"],
        input=expositions[state],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (check.returncode, check.stdout + check.stderr) == (0, "")
