"""Opening connections: a client name that is refused is dropped, whichever thread learns it."""

from __future__ import annotations

from typing import Any

import pytest
import redis.exceptions

from celery_vitals import Secret, Settings
from celery_vitals.brokers.base import ConnectRequest
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.redis.kind import RedisKind
from celery_vitals.brokers.target import target_of
from celery_vitals.deadline import Deadline

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


def test_any_other_error_is_raised(client: BrokerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(kind: RedisKind, url: str, request: ConnectRequest) -> Any:
        raise redis.exceptions.AuthenticationError("WRONGPASS")

    monkeypatch.setattr(RedisKind, "connect", connect)
    with pytest.raises(redis.exceptions.AuthenticationError):
        client.connect(Deadline.after(5))
