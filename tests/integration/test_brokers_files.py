"""The file system and memory as brokers, and those of which nothing is known."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu.transport import TRANSPORT_ALIASES

from celery_vitals.brokers.generic.events import GenericReceiver
from celery_vitals.brokers.kinds import KINDS
from celery_vitals.deadline import Deadline
from celery_vitals.events.canary import KEY
from tests.support.event_streams import cluster_of
from tests.support.exporter import Exporter
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import Broker, Worker, publish, wait_for

EVENTS = "celeryev.celery-vitals"


def broker_at(url: str) -> Broker:
    """A broker without a server."""
    return Broker(url.partition(":")[0], url, "", None)  # type: ignore[arg-type]


class TestFileSystem:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> dict[str, str]:
        """Transport options."""
        for name in ("messages", "control"):
            (tmp_path / name).mkdir()
        messages = str(tmp_path / "messages")
        return {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(tmp_path / "control"),
        }

    @pytest.fixture
    def broker(self) -> Broker:
        return broker_at("filesystem://")

    def test_lengths_workers_and_events(
        self, broker: Broker, folders: dict[str, str], start_worker: Callable[..., Worker]
    ) -> None:
        conf = {"broker_transport_options": folders}
        start_worker(broker, "threads", "w", events=True, conf=conf)
        publish(broker, "add", 1, 2, queue="orphan", count=4, conf=conf)
        options = [f"--broker-transport-option={name}={value}" for name, value in folders.items()]
        with Exporter("--broker-url", broker.url, "--queue", "orphan", *options) as exporter:

            def everything() -> bool:
                scrape = exporter.scrape(timeout=5)
                assert scrape.value("celery_broker_up") == 1
                assert scrape.by("worker", "celery_worker_up") == {"w@test": 1}
                assert scrape.by("queue", "celery_queue_length") == {"celery": 0, "orphan": 4}
                assert scrape.by("queue", "celery_queue_workers") == {"celery": 1, "orphan": 0}
                return scrape.value("celery_exporter_event_stream_up") == 1

            wait_for(everything, 30.0)
            done = {"task": "project.add", "queue": "celery"}

            def succeeded() -> bool:
                # Repeated: kombu loses a message that it reads while the message is being written.
                publish(broker, "add", 1, 2, conf=conf)
                return (
                    exporter.scrape(timeout=5).value("celery_task_succeeded_total", **done) or 0
                ) >= 3

            wait_for(succeeded, 60.0, interval=0.5)
            scrape = exporter.scrape(timeout=5)
            assert scrape.series("celery_queue_unacked_messages") == {}
            assert "queue_unacked_messages" in scrape.by("subject", "celery_exporter_blind_spot")
            assert exporter.stop() == 0
        assert [
            path.name
            for path in Path(folders["data_folder_in"]).iterdir()
            if "celery-vitals" in path.name
        ] == []

    def test_two_exporters_receive_every_event(
        self, broker: Broker, folders: dict[str, str], start_worker: Callable[..., Worker]
    ) -> None:
        conf = {"broker_transport_options": folders}
        worker = start_worker(broker, "solo", "w", events=True, conf=conf)
        with (
            local_exporter(broker, result_backend=None, broker_transport_options=folders) as one,
            local_exporter(broker, result_backend=None, broker_transport_options=folders) as other,
        ):
            for local in (one, other):
                wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)  # noqa: B023

            def ten() -> bool:
                # One at a time: kombu loses a message that it reads while the message is being
                # written.
                publish(broker, "add", 1, 2, conf=conf)
                return worker.log.count("succeeded in") >= 10

            wait_for(ten, 30.0, interval=0.2)

            def received(local: LocalExporter) -> bool:
                return sum(
                    local.scrape().by("task", "celery_task_succeeded_total").values()
                ) == worker.log.count("succeeded in")

            wait_for(lambda: received(one) and received(other))

    def test_the_queue_of_one_that_was_killed_is_removed_by_another(
        self, broker: Broker, folders: dict[str, str]
    ) -> None:
        cluster = cluster_of(broker.url, broker_transport_options=folders)
        messages, table = (
            Path(folders["data_folder_in"]),
            Path(folders["control_folder"], "celeryev.exchange"),
        )
        killed, sleeper, living = (cluster.connect(Deadline.after(5)) for _ in range(3))
        try:
            GenericReceiver(killed, "celeryev", DiscardingSink(), shared_queue=False)
            other = GenericReceiver(sleeper, "celeryev", DiscardingSink(), shared_queue=False)
            ours = GenericReceiver(
                living, "celeryev", DiscardingSink(), shared_queue=False, owner_timeout=1.0
            )
            assert table.read_text().count(EVENTS) == 3

            def swept() -> bool:
                for one in (other, ours):
                    one.publish("celeryev", KEY, b"{}")
                    one.receive(0.05)
                return table.read_text().count(EVENTS) == 2

            wait_for(swept, interval=0.1)
            assert len(list(messages.iterdir())) <= 2
            until = time.monotonic() + 2.5  # two more sweeps: one that lives keeps its queue
            while time.monotonic() < until:
                swept()
            assert table.read_text().count(EVENTS) == 2
            for one in (other, ours):
                one.close(Deadline.after(1))
            assert table.read_text().count(EVENTS) == 0
        finally:
            for connection in (killed, sleeper, living):
                connection.abandon()

    def test_a_folder_that_is_missing(
        self, broker: Broker, folders: dict[str, str], tmp_path: Path
    ) -> None:
        gone = {
            **folders,
            "data_folder_in": str(tmp_path / "gone"),
            "data_folder_out": str(tmp_path / "gone"),
        }
        with local_exporter(broker, result_backend=None, broker_transport_options=gone) as local:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 0
            assert scrape.series("celery_queue_length") == {}
        assert not (tmp_path / "gone").exists()


class DiscardingSink:
    """Discards received events."""

    def deliver(self, bodies: list[bytes], arrived: float) -> None:
        pass

    def reject(self, reason: str) -> None:
        pass


def nothing() -> None:
    """A task."""


class TestMemory:
    @pytest.fixture
    def broker(self) -> Iterator[Broker]:
        from kombu.transport.memory import Channel

        yield broker_at("memory://")
        Channel.queues.clear()

    def test_lengths(self, broker: Broker) -> None:
        publish(broker, "add", 1, 2, queue="q", count=3)
        with local_exporter(broker, result_backend=None, queues=("q", "empty")) as local:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 1
            assert scrape.by("queue", "celery_queue_length") == {"q": 3, "empty": 0}

    def test_a_worker_in_the_same_process(self, broker: Broker) -> None:
        app = Celery("memory", broker=broker.url, set_as_current=False)
        app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False)
        app.task(nothing, name="nothing")
        # The level of its log is that of the whole process, and outlives it.
        quiet = {"loglevel": logging.root.level, "perform_ping_check": False}
        with (
            local_exporter(broker, result_backend=None) as local,
            start_worker(app, hostname="w@test", task_events=True, **quiet),
        ):
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            wait_for(lambda: local.scrape().by("worker", "celery_worker_up") == {"w@test": 1})
            app.send_task("nothing")
            wait_for(
                lambda: (
                    local.scrape().value(
                        "celery_task_succeeded_total", task="nothing", queue="celery"
                    )
                    == 1
                )
            )


class TestOthers:
    def test_each_transport_of_kombu_is_in_the_table(self) -> None:
        assert {scheme for kind in KINDS for scheme in kind.capabilities.schemes} >= {
            name.lower() for name in TRANSPORT_ALIASES
        }

    def test_unknown_transport_exports_no_series_and_creates_nothing(self, tmp_path: Path) -> None:
        file = tmp_path / "broker.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA user_version = 7")
            connection.commit()
        before = file.read_bytes()
        with local_exporter(
            broker_at(f"sqla+sqlite:///{file}"), result_backend=None, queues=("celery",)
        ) as local:
            scrape = local.scrape()
            assert scrape.status == 200
            for name in ("celery_broker_up", "celery_queue_length", "celery_worker_up"):
                assert scrape.series(name) == {}
            spots = scrape.by("subject", "celery_exporter_blind_spot").keys()
            assert spots >= {"broker", "workers", "queues", "task_events"}
            notes: dict[str, Any] = {
                spot.subject: spot.reason for spot in local.collector.status().blind_spots
            }
            assert (
                notes["queues"]
                == "Queue lengths are not read. SQLAlchemy: kombu creates the tables that it reads."
            )
        assert file.read_bytes() == before
