"""The servers that the other tests run against, and the faults they are put through."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import BOTH, KINDS, or_fail
from tests.support.servers import (
    HOST,
    BrokerServer,
    Fault,
    MemcachedServer,
    PrometheusServer,
    Proxy,
    Publisher,
    RabbitMQServer,
    RedisServer,
    install,
    promtool,
    publish,
    wait_for,
)
from tests.support.servers.child import Child

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 0.3


def ask(port: int, question: bytes) -> bytes:
    """Return the first bytes from a server; OSError after the timeout."""
    with socket.create_connection((HOST, port), timeout=TIMEOUT) as connection:
        connection.sendall(question)
        return connection.recv(100)


def answers(server: BrokerServer) -> bool:
    """Return whether the broker answers the first bytes of a client."""
    try:
        return bool(
            ask(server.port, b"PING\r\n" if server.kind == "redis" else b"AMQP\x00\x00\x09\x01")
        )
    except OSError:
        return False


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module", params=BOTH)
def own_server(request: pytest.FixtureRequest) -> Iterator[BrokerServer]:
    with or_fail(KINDS[request.param]) as server:
        yield server
        runner = server.runner
        processes = runner.processes() if isinstance(runner, Child) else []
    assert not living(processes)
    assert not isinstance(runner, Child) or not runner.folder.exists()


class TestBrokerServers:
    def test_freezes_and_thaws(self, own_server: BrokerServer) -> None:
        with own_server.paused():
            assert not answers(own_server)
            assert own_server.alive
        wait_for(lambda: answers(own_server))

    def test_comes_back_after_a_kill(self, own_server: BrokerServer) -> None:
        own_server.kill()
        assert not answers(own_server)
        assert not own_server.alive
        own_server.heal()
        assert answers(own_server)

    def test_restarts_with_the_data_it_keeps(self, own_server: BrokerServer) -> None:
        with own_server.namespace() as broker:
            publish(broker, "add", 1, 2, count=3)
            own_server.restart()
            with Publisher(broker) as publisher:
                assert publisher.length() == (3 if own_server.kind == "rabbitmq" else 0)

    def test_namespaces_are_separate(self, own_server: BrokerServer) -> None:
        with (
            own_server.namespace() as one,
            own_server.namespace() as other,
            Publisher(other) as publisher,
        ):
            publish(one, "add", 1, 2)
            assert publisher.length() == 0


def test_deleted_virtual_hosts_are_gone(rabbitmq_server: RabbitMQServer) -> None:
    with rabbitmq_server.namespace() as broker:
        assert broker.namespace in [one["name"] for one in rabbitmq_server.api("GET", "vhosts")]
    assert broker.namespace not in [one["name"] for one in rabbitmq_server.api("GET", "vhosts")]


def test_redis_with_a_password() -> None:
    with (
        or_fail(lambda: RedisServer(password="a@b:c/d#e%f")) as server,
        server.namespace() as broker,
    ):
        publish(broker, "add", 1, 2)
        assert ask(server.port, b"PING\r\n").startswith(b"-NOAUTH")


def test_memcached() -> None:
    with MemcachedServer() as server:
        with server.paused(), pytest.raises(TimeoutError):
            ask(server.port, b"version\r\n")
        assert server.ready()


def test_prometheus() -> None:
    subprocess.run([promtool(), "--version"], check=True, capture_output=True)
    with PrometheusServer([], interval=0.2) as server:
        assert server.query("vector(1)") == [({}, 1.0)]
        assert server.targets() == server.alerts() == []


SCRIPT = """
import time
from tests.support.servers import RabbitMQServer, RedisServer, Worker
from tests.support.servers.process_reaper import process_reaper
rabbitmq, redis = RabbitMQServer().start(), RedisServer().start()
with redis.namespace() as broker:
    worker = Worker(broker).start()
    processes = (one for child in process_reaper().children for one in child.processes())
    print(process_reaper().root, *(one.pid for one in processes), flush=True)
    time.sleep(600)
"""


def test_nothing_outlives_a_killed_test_process() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder, *pids = process.stdout.readline().split()
        process.send_signal(signal.SIGKILL)
    processes = [one for one in psutil.process_iter() if str(one.pid) in pids]
    wait_for(lambda: not Path(folder).exists())
    assert not living(processes)


class TestProxy:
    @pytest.fixture
    def proxy(self, redis_server: RedisServer) -> Iterator[Proxy]:
        redis_server.heal()
        with Proxy(redis_server.port, byte_interval=0.02) as proxy:
            yield proxy

    @pytest.fixture
    def connect(self, proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
        made: list[socket.socket] = []

        def connect() -> socket.socket:
            made.append(socket.create_connection((HOST, proxy.port), timeout=TIMEOUT))
            return made[-1]

        yield connect
        for one in made:
            one.close()

    def test_passes(
        self, proxy: Proxy, connect: Callable[[], socket.socket], redis_server: RedisServer
    ) -> None:
        assert proxy.url(redis_server.url) == redis_server.url.replace(
            str(redis_server.port), str(proxy.port)
        )
        assert ping(connect()) == b"+PONG\r\n"
        assert proxy.accepted == proxy.connections == 1

    def test_forgets_connections_that_have_ended(
        self, proxy: Proxy, connect: Callable[[], socket.socket]
    ) -> None:
        connection = connect()
        ping(connection)
        connection.close()
        wait_for(lambda: proxy.connections == 0)

    def test_refuses(self, proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
        connection = connect()
        ping(connection)
        proxy.fault = Fault.REFUSE
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connect()
        proxy.fault = Fault.NONE
        assert ping(connect()) == b"+PONG\r\n"

    def test_accepts_and_stays_silent(
        self, proxy: Proxy, connect: Callable[[], socket.socket]
    ) -> None:
        old = connect()
        ping(old)
        proxy.fault = Fault.SILENT
        new = connect()
        for connection in (old, new):
            with pytest.raises(TimeoutError):
                ping(connection)
        proxy.fault = Fault.NONE
        assert old.recv(100) == new.recv(100) == b"+PONG\r\n"

    def test_blackhole(self, proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
        old = connect()
        ping(old)
        proxy.fault = Fault.BLACKHOLE
        with pytest.raises(TimeoutError):
            ping(old)
        with pytest.raises(TimeoutError):
            connect()
        proxy.fault = Fault.NONE
        assert ping(connect()) == b"+PONG\r\n"

    def test_slow(self, proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
        proxy.fault = Fault.SLOW
        connection = connect()
        assert ping(connection) == b"+"
        assert b"".join(connection.recv(1) for _ in range(6)) == b"PONG\r\n"

    def test_cut(self, proxy: Proxy, connect: Callable[[], socket.socket]) -> None:
        connection = connect()
        ping(connection)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert ping(connect()) == b"+PONG\r\n"


def ping(connection: socket.socket) -> bytes:
    """Send a PING; the first that comes back."""
    connection.sendall(b"PING\r\n")
    return connection.recv(100)


class TestInstall:
    def test_reports_what_to_install(self) -> None:
        script = [sys.executable, str(ROOT / "tests/support/servers/install.py")]
        done = subprocess.run(script, env={"PATH": ""}, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "redis-server" in done.stderr

    def test_names_each_package_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(install, "_present", lambda name, places: name == "redis-server")
        packages = [
            "rabbitmq-server",
            "prometheus",
            "prometheus-alertmanager",
            "memcached",
            "postgresql",
            "pgbouncer",
        ]
        assert install.missing_packages() == packages
