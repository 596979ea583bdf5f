"""The audit of real brokers and workers: what is found there, and what cannot be read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Queue

from celery_vitals import Collector, Secret, Settings
from celery_vitals.audit import Report, audit, of_status
from celery_vitals.audit.document import document
from celery_vitals.brokers.target import target_of
from celery_vitals.deadline import Deadline
from tests.support.servers import Broker, Publisher, RedisServer, Worker, wait_for

PASSWORD = "s3cret-of-redis"
CPU_LIMIT = 1.0
"""Seconds of CPU for an audit: the wall clock depends on the load of the machine."""


def by_broker(url: str) -> Report:
    """Audit what the broker and the workers show."""
    return audit(target_of(Settings(broker_url=Secret(url))))


def by_app(broker: str, conf: Mapping[str, Any] | None = None, **tasks: Any) -> Report:
    """Audit an app on a broker."""
    app = Celery("project", broker=broker, set_as_current=False)
    app.conf.update(conf or {})
    for name, options in tasks.items():
        app.task(name=f"project.{name}", shared=False, **options)(_nothing)
    return audit(target_of(Settings(), app), app, "project.app")


def _nothing() -> None:
    """Do nothing."""


def messages(report: Report) -> dict[str, list[str]]:
    """Return the messages of the findings by code."""
    found: dict[str, list[str]] = {}
    for one in report.findings:
        found.setdefault(one.code, []).append(one.message)
    return found


@pytest.fixture(scope="module")
def redis_cluster() -> Iterator[Broker]:
    """A Redis that evicts, two threaded workers of one name, and a solo one with other settings."""
    limits = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(PASSWORD, limits))
        broker = stack.enter_context(server.namespace())
        autoscale = ["--autoscale", "3,1"]
        workers = [
            Worker(broker, "threads", "shared", args=autoscale, conf=timeout(1000)),
            Worker(broker, "threads", "shared", args=autoscale, conf=timeout(1000)),
            Worker(broker, "solo", "alone", queues=("celery", "other"), conf=timeout(2000)),
        ]
        for worker in workers:
            stack.callback(worker.close)
            worker.launch()
        for worker in workers:
            worker.wait_ready()
        with Publisher(broker, timeout(1000)) as publisher:
            publisher.send("late", 7, countdown=36000)
        with server.client(int(broker.namespace)) as client:
            wait_for(lambda: client.hlen("unacked") == 1)
        yield broker


def timeout(seconds: int) -> dict[str, Any]:
    """Return settings with a visibility timeout."""
    return {"broker_transport_options": {"visibility_timeout": seconds}, "task_time_limit": 60}


class TestRedis:
    def test_broker_and_workers_show_their_problems(self, redis_cluster: Broker) -> None:
        started = time.process_time()
        report = by_broker(redis_cluster.url)
        assert time.process_time() - started < CPU_LIMIT
        found = messages(report)
        assert found["redis_evicts"] == ["the eviction policy is allkeys-lru"]
        assert found["redis_not_persistent"]
        assert found["worker_name_shared"] == ["2 workers reply as shared@test"]
        assert found["visibility_timeouts_differ"] == [
            "shared@test redelivers after 1000 s, alone@test after 2000 s"
        ]
        (eta,) = found["visibility_timeout_below_eta"]
        assert eta.startswith("a message of project.late waits for an ETA in 10.0 h")
        assert found["autoscale_without_effect"] == [
            "shared@test: --autoscale with the pool threads"
        ]
        assert len(found["time_limit_without_effect"]) == 2
        assert "acks_late_without_reject" not in found  # no worker has a prefork pool
        assert found["rate_limit_per_worker"] == [
            "project.limited: 1/s on each of 2 workers is 2/s in all"
        ]
        assert found["results_in_broker"]
        assert not {"celery_versions_mixed", "python_versions_mixed", "redis_is_replica"} & set(
            found
        )
        assert report.exit_code == 2
        assert report.not_checked == ()

    def test_app_and_workers_are_compared(self, redis_cluster: Broker) -> None:
        conf = {
            "task_routes": {"project.add": "reports", "project.bill": "other"},
            "beat_schedule": {
                "n": {"task": "project.add", "schedule": 60, "options": {"queue": "nightly"}}
            },
        }
        found = messages(by_app(redis_cluster.url, conf, add={}, bill={}))
        assert found["route_queue_unconsumed"] == [
            "project.add is routed to reports, which no worker consumes"
        ]
        assert found["beat_queue_unconsumed"]
        assert "default_queue_unconsumed" not in found
        assert "tasks_registered_differently" not in found

    def test_no_secret_and_no_argument_is_in_the_report(self, redis_cluster: Broker) -> None:
        text = json.dumps(document(by_broker(redis_cluster.url)))
        assert PASSWORD not in text

    def test_audit_leaves_nothing_behind(self, redis_cluster: Broker) -> None:
        server = redis_cluster.server
        assert isinstance(server, RedisServer)
        with server.client(int(redis_cluster.namespace)) as client:
            before = set(client.keys("*"))
            by_broker(redis_cluster.url)
            wait_for(lambda: set(client.keys("*")) == before)

    def test_problems_that_are_repaired_are_no_findings(self, redis_cluster: Broker) -> None:
        server = redis_cluster.server
        assert isinstance(server, RedisServer)
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("appendonly", "yes")
            try:
                found = messages(by_broker(redis_cluster.url))
            finally:
                client.config_set("appendonly", "no")
                client.config_set("maxmemory-policy", "allkeys-lru")
        assert not {"redis_evicts", "redis_not_persistent", "redis_snapshots_only"} & set(found)

    def test_user_without_permission_for_config(self, redis_cluster: Broker) -> None:
        server = redis_cluster.server
        assert isinstance(server, RedisServer)
        url = redis_cluster.url.replace(f":{PASSWORD}@", "limited:pw-of-limited@")
        with server.client() as client:
            client.execute_command(
                "ACL", "SETUSER", "limited", "on", ">pw-of-limited", "allkeys", "allchannels",
                "+@all", "-config", "-eval", "-evalsha",
            )  # fmt: skip
            try:
                report = by_broker(url)
            finally:
                client.execute_command("ACL", "DELUSER", "limited")
        found = messages(report)
        assert "redis_evicts" in found  # by INFO
        reasons = {one.reason: one.codes for one in report.not_checked}
        config = "permission denied for the command CONFIG GET"
        assert set(reasons[config]) == {
            "redis_not_persistent",
            "redis_snapshots_only",
            "redis_output_buffer_small",
        }
        (script,) = (
            why for why, codes in reasons.items() if "visibility_timeout_below_eta" in codes
        )
        assert script.startswith("permission denied")

    def test_running_exporter_finds_the_same(self, redis_cluster: Broker) -> None:
        collector = Collector(Settings(broker_url=Secret(redis_cluster.url)))
        try:
            collector.refresh(0)
            status = collector.status()
        finally:
            collector.close(Deadline.after(5))
        found = {one.code: one for one in of_status(status, time.time())}
        assert set(found) == {"redis_evicts", "worker_name_shared"}
        assert found["worker_name_shared"].message == "2 workers reply as shared@test"

    def test_replica(self) -> None:
        with RedisServer(PASSWORD) as server:
            with server.client() as client:
                client.config_set("masterauth", PASSWORD)
                client.replicaof("127.0.0.1", 1)
            report = by_broker(server.url)
            assert "redis_is_replica" in messages(report)
            with server.client() as client:
                client.replicaof("NO", "ONE")
            assert "redis_is_replica" not in messages(by_broker(server.url))

    def test_server_that_does_not_answer(self, redis_cluster: Broker) -> None:
        settings = Settings(broker_url=Secret(redis_cluster.url), timeout=1)
        with redis_cluster.server.paused():
            started = time.monotonic()
            report = audit(target_of(settings), timeout=1.0)
            assert time.monotonic() - started < 10
        assert report.exit_code == 0
        assert any("timeout" in one.reason or "in time" in one.reason for one in report.not_checked)


ARGUMENTS = {"x-queue-type": "quorum"}


@pytest.fixture(scope="module")
def rabbitmq_cluster(rabbitmq_server: Any) -> Iterator[Broker]:
    """A RabbitMQ with queues that lose tasks, and a worker."""
    with ExitStack() as stack:
        rabbitmq_server.heal()
        broker = stack.enter_context(rabbitmq_server.namespace())
        vhost, api = broker.namespace, rabbitmq_server.api
        plain = {"durable": True, "arguments": {}}
        api("PUT", f"queues/{vhost}/bounded", {**plain, "arguments": {"x-max-length": 9}})
        api("PUT", f"queues/{vhost}/volatile", {"durable": False, "arguments": {}})
        api("PUT", f"queues/{vhost}/brief", {**plain, "arguments": {"x-expires": 600000}})
        api("PUT", f"queues/{vhost}/mirrored", plain)
        api("PUT", f"queues/{vhost}/plain", plain)
        api(
            "PUT",
            f"policies/{vhost}/mirror",
            {"pattern": "^mirrored$", "definition": {"ha-mode": "all"}, "apply-to": "queues"},
        )
        with Publisher(broker) as publisher:
            publisher.send("add", 1, 2, queue="abandoned", count=2)
        worker = stack.enter_context(Worker(broker, "solo", "w", queues=("celery", "plain")))
        assert worker.alive
        wait_for(lambda: api("GET", f"queues/{vhost}/abandoned").get("messages") == 2, 15)
        yield broker


class TestRabbitMQ:
    def settings(self, broker: Broker) -> Settings:
        return Settings(
            broker_url=Secret(broker.url), rabbitmq_management_url=Secret(broker.management_url)
        )

    def test_queues_that_lose_tasks(self, rabbitmq_cluster: Broker) -> None:
        queues = ("celery", "bounded", "volatile", "brief", "mirrored", "plain")
        app = Celery("project", broker=rabbitmq_cluster.url, set_as_current=False)
        exchange = Exchange("reports", type="direct")
        app.conf.task_queues = [
            *(Queue(name, Exchange(name), name) for name in queues if name != "plain"),
            Queue("plain", Exchange("plain"), "plain", queue_arguments={"x-max-priority": 5}),
            Queue("reports", exchange, "reports", queue_arguments=dict(ARGUMENTS)),
        ]
        app.task(name="project.late", shared=False, acks_late=True, time_limit=7200)(_nothing)
        started = time.process_time()
        report = audit(target_of(self.settings(rabbitmq_cluster), app), app, "project.app")
        assert time.process_time() - started < CPU_LIMIT
        found = messages(report)
        assert found["rabbitmq_queue_drops_tasks"] == [
            "bounded: max-length 9, no dead letter exchange"
        ]
        assert found["rabbitmq_queue_not_durable"] == ["volatile is not durable"]
        assert found["rabbitmq_queue_expires"] == [
            "brief is deleted after 600000 ms without a consumer"
        ]
        assert found["rabbitmq_mirrored_queue"] == ["mirrored: mirrored by a policy"]
        assert found["rabbitmq_queue_abandoned"] == ["abandoned: 2 messages, no consumer"]
        assert found["rabbitmq_queue_declared_differently"] == [
            "bounded exists with x-max-length = 9, the app declares None",
            "brief exists with x-expires = 600000, the app declares None",
            "plain exists with x-max-priority = None, the app declares 5",
        ]
        assert "rabbitmq_consumer_timeout" in found
        assert "eta_on_quorum_queue" in found
        assert not any("redis" in code or "visibility" in code for code in found)
        assert "vitals-secret" not in json.dumps(document(report))

    def test_workers_are_found_without_an_app(self, rabbitmq_cluster: Broker) -> None:
        started = time.process_time()
        report = audit(target_of(self.settings(rabbitmq_cluster)))
        assert time.process_time() - started < CPU_LIMIT
        found = messages(report)
        assert "rpc_results" in found  # by the worker's settings
        assert not {"rabbitmq_queue_not_durable", "rabbitmq_queue_expires"} & set(found)
        assert report.not_checked == ()

    def test_without_the_management_api(self, rabbitmq_cluster: Broker) -> None:
        report = by_broker(rabbitmq_cluster.url)
        (gap,) = report.not_checked
        assert "management API" in gap.reason
        assert "rabbitmq_queue_abandoned" in gap.codes
        assert "rpc_results" in messages(report)
