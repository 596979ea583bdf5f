"""The path /tasks of an exporter with real workers: what they run and hold for later."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tests.integration.test_task_stats import run_example, stats
from tests.support.cases import valid
from tests.support.exporter import Exporter
from tests.support.servers import Broker, Worker, publish, wait_for


def tasks(exporter: Exporter, query: str = "") -> dict[str, Any]:
    status, text = exporter.get(f"/tasks{query}")
    assert status == 200
    return valid(text, "tasks")


def by_worker(found: dict[str, Any]) -> dict[str, tuple[bool, int | None, int | None]]:
    return {
        one["worker"].partition("@")[0]: (one["replied"], one["running"], one["scheduled"])
        for one in found["workers"]
    }


def wait_for_tasks(
    exporter: Exporter, holds: Callable[[dict[str, Any]], bool], query: str = ""
) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def reached() -> bool:
        found.clear()
        found.update(tasks(exporter, query))
        return holds(found)

    wait_for(reached, 30)
    return found


def test_tasks_of_workers_of_each_pool(broker: Broker) -> None:
    with ExitStack() as stack:
        for pool in ("prefork", "threads", "solo"):
            stack.enter_context(Worker(broker, pool, queues=(pool,)))
        exporter = stack.enter_context(Exporter.of(broker))
        assert by_worker(wait_for_tasks(exporter, lambda one: one["complete"])) == dict.fromkeys(
            ("prefork", "threads", "solo"), (True, 0, 0)
        )
        (running,) = publish(broker, "sleep", 100, queue="prefork")
        (eta,) = publish(broker, "add", 1, "secret", queue="threads", countdown=3600)
        publish(broker, "sleep", 100, queue="solo")
        found = wait_for_tasks(
            exporter,
            lambda one: (
                by_worker(one)
                == {"prefork": (True, 1, 0), "threads": (True, 0, 1), "solo": (False, None, None)}
            ),
        )
        assert (found["complete"], found["counts"]) == (False, {"running": 1, "scheduled": 1})
        first, second = found["tasks"]
        assert first.pop("started") is not None
        assert second.pop("eta") is not None
        assert first == {
            "state": "running", "worker": "prefork@test", "task": "project.sleep", "id": running,
            "queue": "prefork", "eta": None, "source": "worker",
        }  # fmt: skip
        assert second == {
            "state": "scheduled", "worker": "threads@test", "task": "project.add", "id": eta,
            "queue": "threads", "started": None, "source": "worker",
        }  # fmt: skip
        for query, ids in (
            ("?state=scheduled", [eta]),
            ("?worker=prefork@test", [running]),
            ("?task=project.sleep&queue=prefork", [running]),
            ("?queue=threads&state=running", []),
        ):
            assert [one["id"] for one in tasks(exporter, query)["tasks"]] == ids
        assert "secret" not in exporter.get("/tasks")[1]
        assert running in run_example(exporter, "curl -s localhost:10818/tasks |")
        assert run_example(exporter, "curl -s 'localhost:10818/tasks?state=running").strip() == "1"


def test_arguments_on_request_and_workers_without_remote_control(redis_broker: Broker) -> None:
    off = {"worker_enable_remote_control": False}
    with (
        Worker(redis_broker, "threads", "silent", events=True, queues=("silent",), conf=off),
        Worker(redis_broker, "threads", "replying", queues=("replying",)),
        Exporter.of(redis_broker, "--web.task-arguments") as exporter,
    ):
        wait_for(lambda: stats(exporter)["watching"]["up"])
        publish(redis_broker, "sleep", 100, queue="silent")
        publish(redis_broker, "add", "<b>" + "x" * 1000, "y", queue="replying", countdown=3600)
        found = wait_for_tasks(
            exporter,
            lambda one: by_worker(one) == {"silent": (False, 1, None), "replying": (True, 0, 1)},
        )
        by_events = [one for one in found["tasks"] if one["source"] == "events"]
        assert [(one["worker"], one["task"]) for one in by_events] == [
            ("silent@test", "project.sleep")
        ]
        assert "args" not in by_events[0]
        (eta,) = (one for one in found["tasks"] if one["state"] == "scheduled")
        assert eta["args"].startswith(("('<b>xxx", "['<b>xxx"))
        assert "<b>" not in exporter.get("/tasks")[1]


def test_a_storm_of_requests_is_one_round(redis_broker: Broker) -> None:
    with (
        Worker(redis_broker, "threads") as worker,
        Exporter.of(redis_broker, "--log.level", "debug") as exporter,
    ):
        wait_for_tasks(exporter, lambda one: one["complete"])
        client = redis_broker.server.client()  # type: ignore[attr-defined]
        before = client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0)
        with ThreadPoolExecutor(25) as pool:
            answers = list(pool.map(lambda _: exporter.get("/tasks")[0], range(200)))
        assert set(answers) == {200}
        after = client.info("commandstats").get("cmdstat_publish", {}).get("calls", 0)
        assert worker.alive
        assert after - before < 40
