"""Rounds that ask workers for their tasks, over a scripted mailbox."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from celery_vitals.brokers.base import Reply
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.collectors import task_list
from celery_vitals.collectors.task_list import MAX_TASKS, TaskLists, WorkerTasks
from celery_vitals.deadline import Deadline
from celery_vitals.events.running import RunningExecution
from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.task_lists import MAX_ROWS
from tests.unit.test_remote_control import FakeMailbox


def active(uuid: str = "u", key: str = "mail", **parts: Any) -> dict[str, Any]:
    given = {
        "id": uuid, "name": "shop.pay", "args": "('secret',)", "kwargs": "{}", "time_start": 1.8e9,
        "delivery_info": {"exchange": "", "routing_key": key},
    }  # fmt: skip
    return {**given, **parts}


class Cluster:
    """Workers that reply at once, and those of them that do not."""

    def __init__(self, replies: dict[str, Any], silent: int = 0, **options: Any) -> None:
        self.mailbox = FakeMailbox(len(replies) + silent)
        self.mailbox.replies = self._replies
        self.replies = replies
        self.connects = 0
        self.error: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.executions: list[RunningExecution] = []
        self.registry = WorkerRegistry(120, 3600)
        self.registry.answers_commands = options.pop("answers_commands", True)
        target: Any = SimpleNamespace(
            broadcast=True, reply_serializer="json", control_exchange="c", control_serializer="json"
        )
        target.kind = SimpleNamespace(mailbox=lambda *_: self.mailbox)
        vars(target).update(options.pop("target", {}))
        broker = SimpleNamespace(
            target=target, connect=self._connect, closed=lambda _: None, connections=0
        )
        self.lists = TaskLists(
            cast(BrokerClient, broker),
            self.registry,
            lambda: self.executions,
            asks_first=options.pop("asks_first", False),
            arguments=options.pop("arguments", False),
        )

    def _connect(self, _: Deadline) -> Any:
        self.connects += 1
        self.hold.wait()
        if self.error:
            raise self.error
        return SimpleNamespace(close=lambda: None, abandon=lambda: None)

    def _replies(self, tickets: dict[str, str]) -> list[tuple[float, Reply]]:
        return [
            (0.0, Reply(tickets[method], {worker: body}))
            for worker, bodies in self.replies.items()
            for method, body in bodies.items()
        ]

    def ask(self, max_age: float = 0.0) -> task_list.TaskList:
        self.lists.refresh(Deadline.after(5), max_age)
        return self.lists.last()


def test_tasks_of_two_workers() -> None:
    cluster = Cluster(
        {
            "a@h": {"active": [active()], "scheduled": []},
            "b@h": {
                "active": [],
                "scheduled": [{"eta": "2027-01-15T08:00:00+00:00", "request": active("v", "x.y")}],
            },
        }
    )
    for worker in ("a@h", "b@h"):
        cluster.registry.queues_replied(worker, [{"name": "mail"}, {"name": "bulk"}])
    found = cluster.ask()
    assert found.workers == (WorkerTasks("a@h", True, 1, 0), WorkerTasks("b@h", True, 0, 1))
    first, second = found.tasks
    assert (first.state, first.uuid, first.queue, first.at) == ("running", "u", "mail", 1.8e9)
    assert (second.uuid, second.queue, second.at) == ("v", "", "2027-01-15T08:00:00+00:00")
    assert (first.arguments, found.reason, found.dropped) == (None, "", 0)
    (messages,) = cluster.mailbox.broadcasts
    assert [one["arguments"] for one in messages] == [{"safe": True}, {}]
    assert cluster.mailbox.closed, "nothing is left with the broker"


def test_a_silent_worker_is_unknown_and_not_empty() -> None:
    cluster = Cluster({"a@h": {"active": [], "scheduled": []}}, silent=1)
    cluster.registry.heartbeat("b@h", None, 1)
    assert cluster.ask().workers == (WorkerTasks("a@h", True, 0, 0), WorkerTasks("b@h"))


def test_executions_by_events_where_the_worker_does_not_reply() -> None:
    cluster = Cluster({"a@h": {"active": [active()], "scheduled": []}}, silent=1)
    cluster.executions = [
        RunningExecution(name, "shop.pay", name, "mail", 1.8e9) for name in ("a@h", "b@h")
    ]
    found = cluster.ask()
    assert found.workers[1] == WorkerTasks("b@h", False, 1, None, by_events=True)
    assert [(one.worker, one.by_events) for one in found.tasks] == [("a@h", False), ("b@h", True)]


@pytest.mark.parametrize(
    "parts", [{"answers_commands": False}, {"target": {"reply_serializer": "yaml"}}]
)
def test_workers_that_may_refuse_are_not_asked(parts: dict[str, Any]) -> None:
    cluster = Cluster({"a@h": {"active": [], "scheduled": []}}, **parts)
    cluster.executions = [RunningExecution("a@h", "shop.pay", "u", "mail", 1.8e9)]
    found = cluster.ask()
    assert (cluster.connects, bool(found.reason)) == (0, True)
    assert found.workers == (WorkerTasks("a@h", False, 1, None, by_events=True),)


def test_refused_commands_are_not_repeated_without_the_collector_of_workers() -> None:
    cluster = Cluster({}, silent=1, answers_commands=False, asks_first=True)
    cluster.registry.heartbeat("a@h", None, 0)
    cluster.ask()
    assert cluster.ask().reason == task_list.REFUSED
    assert len(cluster.mailbox.broadcasts) == 1


def test_a_failed_round_leaves_the_last_results() -> None:
    cluster = Cluster({"a@h": {"active": [active()], "scheduled": []}})
    before = cluster.ask()
    cluster.error = OSError("redis://:secret@h")
    found = cluster.ask()
    assert (found.at, found.tasks) == (before.at, before.tasks)
    assert found.reason.startswith("The last round failed: ")
    assert "secret" not in found.reason


def test_arguments_are_short_text() -> None:
    raw = active(args=["x" * 1000, {"y": 1}], kwargs={"n": list(range(9999))})
    replies = {
        "a@h": {"active": [active(args="y" * 999)], "scheduled": [{"eta": None, "request": raw}]}
    }
    first, second = Cluster(replies, arguments=True).ask().tasks
    for one in (first, second):
        assert one.arguments is not None
        assert all(0 < len(text) <= 200 for text in one.arguments)


@pytest.mark.parametrize(
    "body",
    [None, {"error": "x"}, "x", [None, 5, []], [{}], [{"id": 5, "name": [], "time_start": "x"}]],
)
def test_strange_replies(body: Any) -> None:
    found = Cluster({"a@h": {"active": body, "scheduled": body}}).ask()
    assert all((one.task, one.uuid, one.queue) == ("", "", "") for one in found.tasks)


def test_numbers_are_exact_beyond_the_limits() -> None:
    many = [active(str(number)) for number in range(MAX_ROWS + 7)]
    found = Cluster({f"w{n}@h": {"active": many, "scheduled": []} for n in range(25)}).ask()
    assert len(found.tasks) == MAX_TASKS
    assert found.workers[0].running == MAX_ROWS + 7
    assert found.dropped == 25 * (MAX_ROWS + 7) - MAX_TASKS


def test_two_processes_of_one_name() -> None:
    cluster = Cluster({"a@h": {"active": [active()], "scheduled": []}})
    once = cluster._replies
    cluster.mailbox.mailboxes = None
    cluster.mailbox.replies = lambda tickets: [*once(tickets), *once(tickets)]
    assert cluster.ask().workers[0].running == 2


def test_concurrent_requests_share_a_round() -> None:
    cluster = Cluster({"a@h": {"active": [], "scheduled": []}})
    cluster.hold.clear()
    with ThreadPoolExecutor(100) as pool:
        answers = [pool.submit(cluster.ask, 3.0) for _ in range(100)]
        time.sleep(0.05)
        cluster.hold.set()
        assert all(one.result().workers for one in answers)
    assert cluster.connects == 1
