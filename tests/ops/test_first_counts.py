"""What the rules count of bursts: the first failures of a task, also after a start.

Two exporters, as two replicas, and two Prometheus servers, at random phases of their scrapes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.exporter import Exporter
from tests.support.ops.bursts import Bursts, bursts_on
from tests.support.ops.rules import RULES, groups
from tests.support.servers import HOST, Broker, PrometheusServer, RedisServer, free_port, wait_for
from tests.support.task_series import event_stream_is_up

SIZES = (1, 3, 500)
FAILED = "task:celery_task_failed:increase10m"
TOLERANCE = 0.01
INTERVAL = 1.0


@dataclass
class Monitoring:
    """Two exporters at fixed addresses, and two Prometheus servers that scrape both."""

    broker: Broker
    exporters: list[Exporter]
    servers: list[PrometheusServer]

    def counted(self, name: str = FAILED) -> list[dict[str, float]]:
        """Return what each server has counted, by task."""
        return [
            {labels["task"]: value for labels, value in server.query(name)}
            for server in self.servers
        ]


def start(exporter: Exporter) -> None:
    """Start it, and wait until it receives events."""
    exporter.start()
    wait_for(lambda: event_stream_is_up(exporter), what="event stream up")


@pytest.fixture
def monitoring(redis_server: RedisServer) -> Iterator[Monitoring]:
    with ExitStack() as stack:
        broker = stack.enter_context(redis_server.namespace())
        ports = [free_port() for _ in range(2)]
        exporters = [
            Exporter.of(broker, "--no-collector.backend", "--web.listen-address", f"{HOST}:{port}")
            for port in ports
        ]
        for exporter in exporters:
            stack.callback(exporter.__exit__, None, None, None)
        servers = [
            stack.enter_context(
                PrometheusServer(
                    [f"{HOST}:{port}" for port in ports], interval=INTERVAL, rules=groups(RULES)
                )
            )
            for _ in range(2)
        ]
        yield Monitoring(broker, exporters, servers)


def wrong(monitoring: Monitoring, bursts: Bursts) -> list[str]:
    """Return the tasks whose failures a server did not count, or not exactly."""
    return [
        f"{task}: {counted.get(task)} of {count}"
        for counted in monitoring.counted()
        for (task, outcome), count in sorted(bursts.counts.items())
        if outcome == "failed" and abs(counted.get(task, 0.0) - count) > TOLERANCE * count
    ]


def test_the_rules_count_every_burst(monitoring: Monitoring) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    tasks = [f"burst.{number}" for number in range(200)]
    sizes = [chance.choice(SIZES) for _ in tasks]
    for exporter in monitoring.exporters:
        start(exporter)
    with bursts_on(monitoring.broker) as bursts, ThreadPoolExecutor() as pool:
        # After a start, whether a server has scraped or not.
        bursts.spread(tasks[:40], sizes[:40], 4, chance)
        for task in tasks[40:120]:  # that only succeeded before
            bursts.run(task, 1, "succeeded", runtime=0.1)
        spread = pool.submit(bursts.spread, tasks[40:], sizes[40:], 30, chance)
        # A rolling restart: the other exporter counts what this one misses.
        for exporter in monitoring.exporters:
            time.sleep(5 * INTERVAL)
            exporter.stop()
            start(exporter)
        spread.result()
        wait_for(lambda: not wrong(monitoring, bursts), 10, what=f"all bursts counted, seed {seed}")
        # More failures of tasks that have failed before.
        bursts.spread(tasks[150:], sizes[150:], 5, chance)
        wait_for(lambda: not wrong(monitoring, bursts), 10, what=f"all bursts counted, seed {seed}")
