"""The path /stats of an exporter with a real broker, and the examples of docs/tasks.md."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

from tests.support.cases import valid
from tests.support.exporter import Exporter
from tests.support.servers import Broker, Worker, publish, wait_for

PAGE = Path(__file__).parents[2] / "docs" / "tasks.md"


def stats(exporter: Exporter, query: str = "") -> dict[str, Any]:
    status, text = exporter.get(f"/stats{query}")
    assert status == 200
    return valid(text, "stats")


def run_example(exporter: Exporter, start: str) -> str:
    """Run the command of the page that starts so, and return its output."""
    commands = re.findall(r"(?:^    .*\n)+", PAGE.read_text(), re.MULTILINE)
    (command,) = [one for one in commands if one.strip().startswith(start)]
    command = command.replace("http://", "").replace("localhost:10818", exporter.address)
    done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=True)
    return done.stdout


def test_numbers_of_tasks(broker: Broker) -> None:
    with (
        Worker(broker, "prefork", events=True, conf={"task_send_sent_event": True}),
        Exporter.of(broker) as exporter,
    ):
        wait_for(lambda: stats(exporter)["watching"]["up"])
        before = stats(exporter)
        assert (before["tasks"], before["total"]["started"]) == ([], 0)
        publish(broker, "add", 1, 2, count=3)
        publish(broker, "fail")
        publish(broker, "sleep", 30)
        publish(broker, "add", 1, 2, countdown=60)

        def settled() -> bool:
            total = stats(exporter)["total"]
            return (total["succeeded"], total["failed"], total["running"]) == (3, 1, 1)

        wait_for(settled)
        wait_for(lambda: stats(exporter, "?task=project.add")["tasks"][0]["held"] == 1)
        found = {one["task"]: one for one in stats(exporter)["tasks"]}
        add, fail, sleep = (found[f"project.{name}"] for name in ("add", "fail", "sleep"))
        assert (add["received"], add["succeeded"], add["runtime"]["count"]) == (4, 3, 3)
        assert 0 <= add["runtime"]["p50"]["lower"] <= add["runtime"]["p50"]["estimate"] < 1
        assert (fail["failed"], fail["runtime"], fail["failed_runtime"]["count"]) == (1, None, 1)
        assert (sleep["running"], sleep["last_succeeded"]) == (1, None)
        shown = run_example(exporter, "curl -s localhost:10818/stats |")
        assert shown.startswith("project.add\t3\t0\t")
        assert len(run_example(exporter, "curl -s 'localhost:10818/stats?task").split()) > 0


def test_path_that_is_switched_off(redis_broker: Broker) -> None:
    with Exporter.of(redis_broker, "--no-web.stats", "--no-collector.tasks") as exporter:
        assert exporter.get("/stats")[0] == 404
    with Exporter.of(redis_broker, "--no-collector.tasks") as exporter:
        found = stats(exporter)
    assert (found["total"], found["blind_spots"][0]["setting"]) == (None, "--collector.tasks")
