"""Sending tasks, and whether the broker has any left."""

from __future__ import annotations

import time
from contextlib import suppress
from random import Random
from typing import Any

from tests.support.broker_inventory import client_of
from tests.support.servers import Broker, Publisher, RabbitMQServer, wait_for
from tests.support.task_series import SENT_EVENTS

from .farm import QUEUES

CHUNK = 100
ENOUGH = 300
"""Messages that wait in the broker while more are to be sent."""
TASKS = (
    ("logged_early", "celery"),
    ("logged_early", "celery"),
    ("logged_late", "late"),
    ("logged_safe", "late"),
)


class Traffic:
    """Sends tasks with a queue that is never empty nor long."""

    def __init__(self, broker: Broker, random: Random) -> None:
        self.broker = broker
        self._random = random
        self._publisher = Publisher(broker, SENT_EVENTS)
        self.sent: list[str] = []
        """The ids of all tasks."""

    def reconnect(self) -> None:
        """Connect again to a broker that was restarted."""
        self.close()
        self._publisher = Publisher(self.broker, SENT_EVENTS)

    def waiting(self) -> int:
        """Return the number of messages that no worker has."""
        return sum(self._publisher.length(queue) for queue in QUEUES)

    def taken(self) -> int:
        """Return how many of the messages are no longer in the queues: a worker has received them,
        or a restart of the broker has lost them."""
        return len(self.sent) - self.waiting()

    def top_up(self, count: int) -> None:
        """Send up to a chunk of so many tasks that are left, unless enough of them wait."""
        if self.waiting() > ENOUGH:
            return
        for _ in range(min(CHUNK, count)):
            task, queue = self._random.choice(TASKS)
            self.send(task, self._random.uniform(0.01, 0.1), queue=queue)

    def send(self, task: str, *args: Any, **options: Any) -> None:
        """Send one task."""
        self.sent += self._publisher.send(task, *args, **options)

    def send_one(self, task: str, *args: Any, **options: Any) -> str:
        """Send one task and return its id."""
        self.send(task, *args, **options)
        return self.sent[-1]

    def close(self) -> None:
        """Close the connections, maybe to a broker that is gone."""
        with suppress(Exception):
            self._publisher.close()


def messages(broker: Broker) -> int:
    """Return the number of messages that wait or are not acknowledged."""
    if broker.kind == "redis":
        with client_of(broker) as client:
            counts: Any = [client.llen(queue) for queue in QUEUES]
            unacked: Any = client.hlen("unacked")
            return int(sum(counts) + unacked)
    assert isinstance(broker.server, RabbitMQServer)
    found = broker.server.api("GET", f"queues/{broker.namespace}")
    return sum(one.get("messages", 1) for one in found if one["name"] in QUEUES)


def wait_empty(broker: Broker, timeout: float, steady: float = 3.0) -> None:
    """Wait until the broker has had no message for some seconds."""
    since = 0.0

    def empty() -> bool:
        nonlocal since
        left = messages(broker)
        since = 0.0 if left else since or time.monotonic()
        assert not left, f"{left} messages"
        return time.monotonic() - since > steady

    wait_for(empty, timeout, what="the broker empty", interval=0.2, ignoring=(OSError,))
