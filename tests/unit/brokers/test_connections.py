"""How connections are closed: in good order, or without waiting for a broker that hangs."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from celery_vitals.brokers import base
from celery_vitals.brokers.connection import BrokerConnection, ConnectRequest
from celery_vitals.brokers.kinds import KINDS, kind_of
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.writability import PublisherBlock

REQUEST = ConnectRequest(
    tls=None,
    options={},
    login_method=None,
    connect_timeout=1.0,
    io_timeout=1.0,
    listening=False,
    named=True,
)


class FakeKombu:
    """A connection of kombu that records how it ends."""

    def __init__(self, *_: Any, **options: Any) -> None:
        self.ended: list[str] = []
        self.default_channel: Any = SimpleNamespace(_sqs=None, connection=None)
        self.transport = SimpleNamespace(Channel=object)
        self.connection = SimpleNamespace(_METHODS={}, _callbacks={})
        self.options = options
        ENDED.append(self.ended)

    def ensure_connection(self, **_: Any) -> None:
        raise ConnectionRefusedError

    def release(self) -> None:
        self.ended.append("released")

    def collect(self) -> None:
        self.ended.append("collected")


ENDED: list[list[str]] = []


def ends(kind: Any) -> tuple[str, str]:
    """How a connection of kombu ends when it is closed, and when it is abandoned."""
    return ("released", "collected" if kind.driver_type == "amqp" else "released")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.capabilities.title))
def test_a_connection_that_cannot_be_opened_is_abandoned(
    monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setattr(base, "Connection", FakeKombu)
    with pytest.raises(ConnectionRefusedError):
        kind.connect("x://h", REQUEST)
    assert ENDED[-1] == [ends(kind)[1]]


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("amqp", {"connect_timeout": 120, "heartbeat": 3, "read_timeout": 0, "write_timeout": 0}),
        ("redis", {"max_connections": 1, "socket_timeout": 90, "retry_on_timeout": True}),
    ],
)
def test_the_bounds_of_the_exporter_precede_the_options_of_the_application(
    scheme: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[FakeKombu] = []

    class Recorded(FakeKombu):
        def ensure_connection(self, **_: Any) -> None:
            opened.append(self)
            super().ensure_connection()

    monkeypatch.setattr(base, "Connection", Recorded)
    with pytest.raises(ConnectionRefusedError):
        kind_of(scheme).connect("x://h", replace(REQUEST, options=options))
    used = opened[0].options["transport_options"]
    assert {name for name, value in options.items() if used[name] == value} <= {"max_connections"}


@pytest.mark.parametrize("scheme", ["amqp", "sqs", "memory"])
def test_only_rabbitmq_is_abandoned_without_a_handshake(scheme: str) -> None:
    kombu: Any = FakeKombu()
    kind = kind_of(scheme)
    connection: BrokerConnection = kind.connection_class(kombu, PublisherBlock())
    connection.close()
    connection.abandon()
    assert tuple(kombu.ended) == ends(kind)


class FakeRedisChannel:
    """A channel of kombu on Redis, with its two pools."""

    def __init__(self) -> None:
        self.disconnected: list[str] = []
        self.async_pool = SimpleNamespace(disconnect=lambda: self.disconnected.append("consumers"))
        self.pool = SimpleNamespace(make_connection=self._connect)
        pool = SimpleNamespace(disconnect=lambda: self.disconnected.append("pool"))
        self.client = SimpleNamespace(connection_pool=pool)

    def _connect(self) -> Any:
        return SimpleNamespace(
            connect=lambda: None, disconnect=lambda: self.disconnected.append("dedicated")
        )


@pytest.mark.parametrize("end", [RedisConnection.close, RedisConnection.abandon])
def test_redis_connections_are_counted_and_all_of_them_closed(end: Any) -> None:
    kombu: Any = FakeKombu()
    channel = kombu.default_channel = FakeRedisChannel()
    connection = RedisConnection(kombu, PublisherBlock())
    assert (channel.disconnected, connection.sockets) == (["consumers"], 1)
    connection.dedicated_connection()
    connection.dedicated_connection()
    assert (channel.disconnected[1:], connection.sockets) == (["pool", "pool"], 2)
    end(connection)
    assert channel.disconnected[3:] == ["dedicated", "dedicated"]
    assert kombu.ended == ["released"]


def test_the_clients_of_sqs_are_closed_with_the_connection() -> None:
    closed: list[str] = []
    kombu: Any = FakeKombu()
    kombu.default_channel._sqs = SimpleNamespace(close=lambda: closed.append("client"))
    kind_of("sqs").connection_class(kombu, PublisherBlock()).abandon()
    assert closed == ["client"]


def test_a_blocked_connection_is_only_detected_on_rabbitmq() -> None:
    assert kind_of("amqp").connection_options(REQUEST)["on_blocked"]("alarm") is None
    assert REQUEST.block.active
    kind_of("amqp").connection_options(REQUEST)["on_unblocked"]()
    assert not REQUEST.block.active
    others = [kind for kind in KINDS if kind.driver_type != "amqp"]
    assert not any("on_blocked" in kind.connection_options(REQUEST) for kind in others)


def test_redis_never_redelivers_to_the_exporter() -> None:
    for scheme in ("redis", "sentinel"):
        options = kind_of(scheme).connection_options(REQUEST)
        assert options["visibility_timeout"] >= 10**9
        assert options["retry_on_timeout"] is False


def test_the_search_for_the_master_is_bounded_and_not_repeated() -> None:
    request = replace(REQUEST, options={"master_name": "m", "sentinel_kwargs": {"password": "p"}})
    bounds = kind_of("sentinel").connection_options(request)["sentinel_kwargs"]
    assert (bounds["password"], bounds["socket_timeout"]) == ("p", 1.0)
    assert bounds["retry"].get_retries() == 0
