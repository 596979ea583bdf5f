"""Opening connections: refused client names, and several addresses."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions

from celery_vitals import Secret, Settings
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import ConnectRequest
from celery_vitals.brokers.redis.kind import RedisKind
from celery_vitals.brokers.target import target_of
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason

DENIED = redis.exceptions.NoPermissionError(
    "this user has no permissions to run the 'client|setname' command"
)


@pytest.fixture
def client() -> BrokerClient:
    return BrokerClient(target_of(Settings(broker_url=Secret("redis://h/0"))), 1.0)


def test_a_refused_client_name_is_not_sent_again(
    client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[bool] = []

    def connect(kind: RedisKind, url: str, request: ConnectRequest) -> Any:
        named.append(request.named)
        if request.named:
            raise DENIED
        return object()

    monkeypatch.setattr(RedisKind, "connect", connect)
    client.connect(Deadline.after(5))
    client.connect(Deadline.after(5))
    assert named == [True, False, False]


def test_a_name_that_another_thread_has_seen_refused_meanwhile_is_dropped_too(
    client: BrokerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(kind: RedisKind, url: str, request: ConnectRequest) -> Any:
        if request.named:
            client._named = False  # as the other thread does
            raise DENIED
        return object()

    monkeypatch.setattr(RedisKind, "connect", connect)
    assert client.connect(Deadline.after(5))


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.AuthenticationError("WRONGPASS"),
        redis.exceptions.ResponseError("DB index is out of range"),
        ConnectionResetError("by the client"),
    ],
)
def test_any_other_error_is_raised_at_once(
    client: BrokerClient, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    named: list[bool] = []

    def connect(kind: RedisKind, url: str, request: ConnectRequest) -> Any:
        named.append(request.named)
        raise error

    monkeypatch.setattr(RedisKind, "connect", connect)
    with pytest.raises(type(error)):
        client.connect(Deadline.after(5))
    assert named == [True]


class TestAddresses:
    """Several addresses are tried in turn, the last good one first."""

    @pytest.fixture
    def tried(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        tried: list[str] = []

        def connect(kind: RedisKind, url: str, request: ConnectRequest) -> Any:
            tried.append(url[-3])
            if url != "redis://b/0":
                raise ConnectionRefusedError(url)
            return object()

        monkeypatch.setattr(RedisKind, "connect", connect)
        return tried

    def client(self, url: str) -> BrokerClient:
        return BrokerClient(target_of(Settings(broker_url=Secret(url))), 1.0)

    def test_the_last_good_one_comes_first(self, tried: list[str]) -> None:
        client = self.client("redis://a/0;redis://b/0;redis://c/0")
        client.connect(Deadline.after(5))
        client.connect(Deadline.after(5))
        assert tried == ["a", "b", "b"]

    def test_the_error_of_the_last_one_is_raised(self, tried: list[str]) -> None:
        with pytest.raises(ConnectionRefusedError, match="redis://c/0"):
            self.client("redis://a/0;redis://c/0").connect(Deadline.after(5))

    def test_none_is_tried_after_the_deadline(self, tried: list[str]) -> None:
        with pytest.raises(ProbeError) as caught:
            self.client("redis://a/0;redis://b/0").connect(Deadline.after(0))
        assert (tried, caught.value.reason) == ([], Reason.TIMEOUT)
