"""The path /lost of an exporter with a real broker: whether executions are observed."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from tests.support.cases import valid
from tests.support.exporter import Exporter
from tests.support.servers import Broker, wait_for


def watching(exporter: Exporter) -> dict[str, Any]:
    found: dict[str, Any] = lost(exporter)["watching"]
    return found


def lost(exporter: Exporter) -> dict[str, Any]:
    status, text = exporter.get("/lost")
    assert status == 200
    return valid(text)


def seconds(time_in_utc: str) -> float:
    return datetime.fromisoformat(time_in_utc.replace("Z", "+00:00")).timestamp()


def test_since_when_executions_are_observed(own_broker: Broker) -> None:
    started = int(time.time())
    with Exporter.of(own_broker) as exporter:
        wait_for(lambda: watching(exporter)["up"])
        content = lost(exporter)
        assert content["cases"] == []
        assert "task_events" not in [spot["subject"] for spot in content["blind_spots"]]
        since = content["watching"]["since"]
        assert started <= seconds(since) <= time.time()
        assert content["watching"]["connected_since"] == since
        wait_for(lambda: time.time() > seconds(since) + 1)
        own_broker.server.stop()
        wait_for(lambda: not watching(exporter)["up"])
        content = lost(exporter)
        assert content["watching"] == {"up": False, "since": since, "connected_since": None}
        assert "task_events" in [spot["subject"] for spot in content["blind_spots"]]
        own_broker.server.start()
        wait_for(lambda: watching(exporter)["up"], 30)
        assert watching(exporter)["since"] == since
        assert seconds(watching(exporter)["connected_since"]) > seconds(since)


def test_nothing_is_observed_without_the_collector(redis_broker: Broker) -> None:
    with Exporter.of(redis_broker, "--no-collector.tasks") as exporter:
        exporter.scrape()
        content = lost(exporter)
    assert content["watching"] == {"up": False, "since": None, "connected_since": None}
    assert "--collector.tasks" in [spot["setting"] for spot in content["blind_spots"]]


def test_path_that_is_switched_off(redis_broker: Broker) -> None:
    with Exporter.of(redis_broker, "--no-web.lost") as exporter:
        status, text = exporter.get("/lost")
        assert (status, "/lost" in text) == (404, False)
        assert "lost" not in exporter.get("/")[1].lower()
