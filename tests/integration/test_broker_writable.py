"""Whether the broker accepts messages, compared with the fate of a task that is really sent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.broker_inventory import inventory
from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, local_exporter, redis_client
from tests.support.servers import (
    Broker,
    Publisher,
    RabbitMQServer,
    RedisServer,
    free_port,
    publish,
    wait_for,
)
from tests.support.servers.child import Child

WRITABLE = "celery_broker_writable"
REASON = "celery_broker_unwritable_reason"
NAMES = ("broker",)
REASONS = {
    "blocked",
    "disk",
    "loading",
    "memory",
    "permission",
    "persistence",
    "read_only",
    "replicas",
}


def observed(scrape: Scrape) -> tuple[float | None, set[str]]:
    """The value of writable, and the reasons that are 1."""
    reasons = scrape.by("reason", REASON)
    if scrape.value(WRITABLE) is None:
        assert reasons == {}
    else:
        assert set(reasons) == REASONS
    return scrape.value(WRITABLE), {name for name, value in reasons.items() if value}


def arrives_on_redis(broker: Broker) -> bool:
    """Whether tasks that are really sent enter their queue.

    Of a full memory the buffers of closed connections may become free: a few tasks then fit.
    """
    try:
        publish(broker, "add", 1, 2, queue="truth", count=50)
    except Exception:
        return False
    return True


@contextmanager
def own_redis(*args: str) -> Iterator[Broker]:
    with RedisServer(extra_args=args) as server:
        yield Broker("redis", server.url, server.url, server)


def fill(client: redis.Redis, size: int = 1000) -> None:
    """Fill the memory, by messages of this size at last."""
    for step in (100_000, size):
        try:
            while True:
                client.rpush("fill", "x" * step)
        except redis.exceptions.OutOfMemoryError:
            pass


class TestRedis:
    def refuses(self, broker: Broker, reason: str, up: bool = True) -> None:
        """The exporter reports the reason, and real tasks do not arrive."""
        with local_exporter(broker) as local:
            scrape = local.scrape(names=NAMES)
            assert observed(scrape) == (0, {reason})
            assert scrape.value("celery_broker_up") == up
        assert not arrives_on_redis(broker)

    def accepts(self, broker: Broker) -> None:
        with local_exporter(broker) as local:
            assert observed(local.scrape(names=NAMES)) == (1, set())
            assert "broker_writable" not in local.blind_spots()
        assert arrives_on_redis(broker)

    @pytest.mark.parametrize("size", [200, 2000, 20_000])
    def test_memory_limit_without_eviction(self, size: int) -> None:
        with own_redis("--maxmemory", "8mb") as broker, redis_client(broker) as client:
            self.accepts(broker)
            fill(client, size)
            self.refuses(broker, "memory")
            with local_exporter(broker) as local:
                scrape = local.scrape(names=NAMES)
                used = scrape.value("celery_broker_memory_used_bytes")
                assert used is not None
                assert used == pytest.approx(8 << 20, rel=0.05)
                assert scrape.value("celery_broker_memory_limit_bytes") == 8 << 20
                assert scrape.by("policy", "celery_broker_eviction_policy_info") == {
                    "noeviction": 1
                }
            client.delete("fill")
            self.accepts(broker)

    def test_memory_limit_with_nothing_to_evict(self) -> None:
        args = ("--maxmemory", "8mb", "--maxmemory-policy", "volatile-lru")
        with own_redis(*args) as broker, redis_client(broker) as client:
            fill(client)
            self.refuses(broker, "memory")

    @pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "allkeys-lru"])
    def test_a_full_redis_that_evicts_accepts_messages(self, policy: str) -> None:
        with (
            own_redis("--maxmemory", "8mb", "--maxmemory-policy", policy) as broker,
            redis_client(broker) as client,
        ):
            for number in range(300):
                client.set(f"result-{number}", "x" * 50_000, ex=3600)
            self.accepts(broker)

    def test_no_limit_has_no_limit_and_no_policy(self, redis_broker: Broker) -> None:
        with local_exporter(redis_broker) as local:
            scrape = local.scrape(names=NAMES)
            assert observed(scrape) == (1, set())
            assert (scrape.value("celery_broker_memory_used_bytes") or 0) > 0
            assert scrape.series("celery_broker_memory_limit_bytes") == {}
            assert scrape.series("celery_broker_eviction_policy_info") == {}

    def test_a_read_only_replica(self) -> None:
        with own_redis() as broker, redis_client(broker) as client:
            client.replicaof("127.0.0.1", str(free_port()))
            self.refuses(broker, "read_only")
            client.config_set("replica-read-only", "no")
            self.accepts(broker)

    def test_too_few_replicas(self) -> None:
        with own_redis() as broker, redis_client(broker) as client:
            client.config_set("min-replicas-to-write", 1)
            self.refuses(broker, "replicas")
            client.config_set("min-replicas-to-write", 0)
            self.accepts(broker)

    def test_a_failed_snapshot(self) -> None:
        with own_redis("--save", "3600 1") as broker, redis_client(broker) as client:
            fail_snapshot(broker, client)
            # Redis then refuses PING as well, and workers cannot receive either.
            self.refuses(broker, "persistence", up=False)
            client.config_set("stop-writes-on-bgsave-error", "no")
            self.accepts(broker)

    def test_while_it_loads_its_data(self) -> None:
        args = ("--save", "3600 1", "--key-load-delay", "1000")
        with own_redis(*args, "--loading-process-events-interval-bytes", "1024") as broker:
            with redis_client(broker) as client:
                client.mset({f"key-{number}": "x" * 100 for number in range(8000)})
                client.save()
            broker.server.kill()
            broker.server.runner.start()
            with local_exporter(broker) as local:

                def loading() -> bool:
                    return local.scrape(names=NAMES).value(WRITABLE) == 0

                wait_for(loading)
                scrape = local.scrape(names=NAMES)
                assert observed(scrape) == (0, {"loading"})
                assert scrape.value("celery_broker_up") == 0
                assert not arrives_on_redis(broker)
                wait_for(lambda: local.scrape(names=NAMES).value(WRITABLE) == 1, 30)
            assert arrives_on_redis(broker)

    def test_a_broker_that_is_down_is_unknown(self) -> None:
        with own_redis() as broker, local_exporter(broker) as local:
            assert observed(local.scrape(names=NAMES)) == (1, set())
            broker.server.kill()
            scrape = local.scrape(names=NAMES)
            assert (scrape.value("celery_broker_up"), observed(scrape)) == (0, (None, set()))
            assert scrape.series("celery_broker_memory_used_bytes") == {}

    def test_the_page_names_the_reason(self) -> None:
        with own_redis() as broker, redis_client(broker) as client:
            client.config_set("min-replicas-to-write", 1)
            with local_exporter(broker) as local:
                local.scrape(names=NAMES)
                state = local.collector.status().broker_state
                assert state.reason is not None
                assert state.reason.description == "too few replicas are connected"


def snapshot_path(broker: Broker) -> Path:
    assert isinstance(broker.server.runner, Child)
    return broker.server.runner.folder / "dump.rdb"


def fail_snapshot(broker: Broker, client: redis.Redis) -> None:
    """Have a snapshot fail: a folder has its name."""
    (snapshot_path(broker) / "taken").mkdir(parents=True)
    client.set("changed", "1")
    client.bgsave()
    wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")


class TestRedisPermissions:
    """A user who may not call LPUSHX, INFO or both."""

    @contextmanager
    def user(self, broker: Broker, *rules: str) -> Iterator[LocalExporter]:
        with redis_client(broker) as client:
            client.execute_command(
                "ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "&*", "+@all", *rules
            )
        url = broker.url.replace("redis://", "redis://limited:secret@")
        with local_exporter(broker, broker_url=url) as local:
            yield local

    def test_info_alone_decides_where_it_can(self) -> None:
        with own_redis("--maxmemory", "8mb", "--save", "3600 1") as broker:
            self.check_info_alone(broker)

    def check_info_alone(self, broker: Broker) -> None:
        def state() -> tuple[float | None, set[str]]:
            return observed(local.scrape(names=NAMES))

        with self.user(broker, "-lpushx") as local, redis_client(broker) as client:
            assert state() == (1, set())
            fill(client)
            assert state() == (0, {"memory"})
            client.delete("fill")
            client.config_set("min-replicas-to-write", 1)
            assert state() == (0, {"replicas"})
            client.config_set("min-replicas-to-write", 0)
            client.replicaof("127.0.0.1", str(free_port()))
            assert state() == (0, {"read_only"})
            client.replicaof("NO", "ONE")
            assert state() == (1, set())
            fail_snapshot(broker, client)
            assert state() == (0, {"persistence"})
            client.config_set("stop-writes-on-bgsave-error", "no")
            assert state() == (1, set())
            client.config_set("save", "")
            (snapshot_path(broker) / "taken").rmdir()
            snapshot_path(broker).rmdir()
            self.check_unknown_number_of_replicas(broker, local)

    def check_unknown_number_of_replicas(self, broker: Broker, local: LocalExporter) -> None:
        """Only CONFIG shows how many replicas are required when some are connected."""
        with redis_client(broker) as client, own_redis() as other:
            with redis_client(other) as replica:
                replica.replicaof("127.0.0.1", str(broker.server.port))
                client.config_set("min-replicas-to-write", 2)
                wait_for(lambda: client.info("replication").get("min_slaves_good_slaves") == 1)
            assert observed(local.scrape(names=NAMES)) == (None, set())
            assert "the command LPUSHX" in local.blind_spots()["broker_writable"]

    def test_without_info_only_the_memory_is_unknown(self, redis_broker: Broker) -> None:
        with self.user(redis_broker, "-info") as local:
            scrape = local.scrape(names=NAMES)
            assert observed(scrape) == (1, set())
            assert scrape.series("celery_broker_memory_used_bytes") == {}
            assert "permission denied for the command INFO" in local.blind_spots()["broker_memory"]
            assert local.collector.status().broker_state.writable is True

    def test_without_both_it_is_absent(self, redis_broker: Broker) -> None:
        with self.user(redis_broker, "-info", "-lpushx") as local:
            scrape = local.scrape(names=NAMES)
            assert (scrape.value("celery_broker_up"), observed(scrape)) == (1, (None, set()))
            assert set(local.blind_spots()) >= {"broker_writable", "broker_memory"}
            assert scrape.series("celery_probe_failures_total") == {}

    def test_denied_keys_leave_the_decision_to_info(self, redis_broker: Broker) -> None:
        with self.user(redis_broker, "resetkeys", "~_kombu*") as local:
            assert observed(local.scrape(names=NAMES)) == (1, set())

    def test_server_without_the_command(self) -> None:
        with own_redis("--rename-command", "LPUSHX", "") as broker, local_exporter(broker) as local:
            assert observed(local.scrape(names=NAMES)) == (1, set())


def control(server: RabbitMQServer, *arguments: str) -> None:
    """Run rabbitmqctl on the server."""
    assert isinstance(server.runner, Child)
    program = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
    subprocess.run(
        [program, *arguments], env=dict(server.runner.env), check=True, capture_output=True
    )


ALARMS = {
    "memory": (
        ("set_vm_memory_high_watermark", "absolute", "1MB"),
        ("set_vm_memory_high_watermark", "0.6"),
    ),
    "disk": (("set_disk_free_limit", "900000GB"), ("set_disk_free_limit", "50MB")),
}


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as server:
        if not isinstance(server.runner, Child):
            pytest.skip("rabbitmqctl is in the container")
        yield server


class TestRabbitMQ:
    @contextmanager
    def alarm(self, server: RabbitMQServer, reason: str) -> Iterator[None]:
        raised, cleared = ALARMS[reason]
        control(server, *raised)
        try:
            yield
        finally:
            control(server, *cleared)

    def arrives(self, broker: Broker) -> bool:
        """Whether the second of two tasks sent over a connection arrives.

        RabbitMQ may still read the first: it blocks a connection when that publishes.
        """
        before = ready(broker)
        publisher = Publisher(broker)
        try:
            publisher.send("add", 1, 2, queue="truth", count=2)
            try:
                wait_for(lambda: ready(broker) >= before + 2, 2)
            except AssertionError:
                return False
            return True
        finally:
            publisher.app.pool.force_close_all()
            publisher._connection.collect()

    @pytest.mark.parametrize("management", [True, False])
    @pytest.mark.parametrize("reason", ["memory", "disk"])
    def test_an_alarm(self, server: RabbitMQServer, reason: str, management: bool) -> None:
        url: dict[str, Any] = {} if management else {"rabbitmq_management_url": None}
        with server.namespace() as broker, local_exporter(broker, **url) as local:
            publish(broker, "add", 1, 2, queue="truth")
            assert observed(local.scrape(names=NAMES)) == (1, set())
            assert self.arrives(broker)
            with self.alarm(server, reason):
                for _ in range(3):
                    scrape = local.scrape(names=NAMES)
                    assert observed(scrape) == (0, {reason})
                    assert scrape.value("celery_broker_up") == 1
                with local_exporter(broker, **url) as fresh:  # at the first scrape already
                    assert observed(fresh.scrape(names=NAMES)) == (0, {reason})
                assert not self.arrives(broker)
            wait_for(lambda: observed(local.scrape(names=NAMES)) == (1, set()))
            assert self.arrives(broker)

    def test_memory_from_the_management_api(self, server: RabbitMQServer) -> None:
        with server.namespace() as broker, local_exporter(broker) as local:

            def memory() -> float | None:
                return local.scrape(names=NAMES).value("celery_broker_memory_used_bytes")

            wait_for(memory)
            scrape = local.scrape(names=NAMES)
            used = scrape.value("celery_broker_memory_used_bytes")
            limit = scrape.value("celery_broker_memory_limit_bytes")
            assert used is not None
            assert limit is not None
            assert 10 << 20 < used < limit
            assert "broker_memory" not in local.blind_spots()

    def test_without_the_management_api_only_the_memory_is_unknown(
        self, server: RabbitMQServer
    ) -> None:
        with (
            server.namespace() as broker,
            local_exporter(broker, rabbitmq_management_url=None) as local,
        ):
            assert observed(local.scrape(names=NAMES)) == (1, set())
            assert "broker_memory" in local.blind_spots()

    def test_a_user_who_may_not_publish(self, server: RabbitMQServer) -> None:
        with server.namespace() as broker:
            server.api("PUT", "users/reader", {"password": "secret", "tags": ""})
            rights = {"configure": "^$", "write": "^$", "read": ".*"}
            server.api("PUT", f"permissions/{broker.namespace}/reader", rights)
            url = broker.url.replace(f"{server.user}:{server.password}@", "reader:secret@")
            with local_exporter(broker, broker_url=url, rabbitmq_management_url=None) as local:
                for _ in range(2):
                    scrape = local.scrape(names=NAMES)
                    assert (scrape.value("celery_broker_up"), observed(scrape)) == (
                        1,
                        (None, set()),
                    )
                assert "may not publish" in local.blind_spots()["broker_writable"]
            with local_exporter(broker, broker_url=url) as local:

                def decided() -> bool:
                    return observed(local.scrape(names=NAMES)) == (1, set())

                wait_for(decided)  # by the alarms
                with self.alarm(server, "memory"):
                    wait_for(lambda: observed(local.scrape(names=NAMES)) == (0, {"memory"}))


def ready(broker: Broker) -> int:
    """Messages in the queue of the test, as RabbitMQ counts them for a passive declare."""
    from kombu import Connection

    with Connection(broker.url) as connection, connection.channel() as channel:
        return int(channel.queue_declare("truth", passive=True).message_count)


def test_looking_leaves_nothing_behind(broker: Broker) -> None:
    publish(broker, "add", 1, 2, queue="waiting")
    with local_exporter(broker, collectors=frozenset(NAMES)) as local:
        local.scrape(names=NAMES)
        before = inventory(broker)
        for _ in range(20):
            assert observed(local.scrape(names=NAMES)) == (1, set())
        assert inventory(broker) == before
