"""What an ACL of Redis denies is a value; sentences are made of it, and never read back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import redis.exceptions

from celery_vitals import Secret, Settings
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.queue_stats import WorkerReports
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.permissions import Refusal, refusal_of
from celery_vitals.brokers.redis.queues import RedisQueueReader
from celery_vitals.brokers.redis.scripts import UNACKED_BY_QUEUE, ScriptProblem, ServerScript
from celery_vitals.brokers.target import target_of
from celery_vitals.deadline import Deadline
from celery_vitals.queue_registry import QueueRegistry
from tests.support.servers import Broker

NAME = "may not run"
"""A queue whose name looks like the text of a refusal."""


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (
            redis.exceptions.NoPermissionError(
                "this user has no permissions to run the 'llen' command"
            ),
            Refusal(("LLEN",)),
        ),
        (
            redis.exceptions.ResponseError(
                "NOPERM User x has no permissions to run the 'script|load' command"
            ),
            Refusal(("SCRIPT LOAD",)),
        ),
        (
            redis.exceptions.NoPermissionError("this user has no permissions to access the keys"),
            Refusal(),
        ),
        (redis.exceptions.ResponseError("WRONGTYPE Operation against a key"), None),
        (redis.exceptions.ResponseError("a queue that may not run"), None),
    ],
)
def test_a_refusal_names_the_command_or_the_keys(error: Exception, refusal: Refusal | None) -> None:
    assert refusal_of(error) == refusal


def test_a_denied_command_holds_for_all_keys_and_denied_keys_for_one() -> None:
    assert Refusal(("LLEN",)).for_all_keys
    assert not Refusal().for_all_keys
    assert Refusal(("LLEN",)).clause == "permission denied for the command LLEN"
    assert Refusal().clause == "permission denied for the keys"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("unknown command 'EVALSHA'", ScriptProblem.UNSUPPORTED),
        ("BUSY Redis is busy running a script", ScriptProblem.NOT_NOW),
        (
            "The user executing the script can't run this command or subcommand",
            Refusal(("ZRANGE", "HLEN", "HSTRLEN", "HGET")),
        ),
    ],
)
def test_why_a_script_was_not_run(text: str, problem: Refusal | ScriptProblem) -> None:
    def fail(**_: Any) -> None:
        raise redis.exceptions.ResponseError(text)

    class Client:
        def register_script(self, source: str) -> Any:
            return fail

    script = ServerScript(Client(), UNACKED_BY_QUEUE)
    assert script.run(["unacked"], [1]) is None
    assert script.problem == problem


@pytest.fixture
def connection(redis_broker: Broker) -> Iterator[RedisConnection]:
    client = BrokerClient(target_of(Settings(broker_url=Secret(redis_broker.url))), 1.0)
    connection = client.connect(Deadline.after(5))
    assert isinstance(connection, RedisConnection)
    yield connection
    connection.close()


def test_a_queue_named_like_a_refusal_is_not_logged_as_one(
    connection: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    connection.redis().lpush(f"{NAME}\x06\x161", b"{}")
    reader = RedisQueueReader(connection, QueueRegistry({NAME}), "celery")
    with caplog.at_level(logging.WARNING):
        snapshot = reader.measure(WorkerReports(), Deadline.after(5))
    assert snapshot.queues[NAME].ready == 1
    assert caplog.messages == []


def test_a_key_that_is_no_list_is_logged_for_every_error(
    connection: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    connection.redis().set(NAME, b"")
    reader = RedisQueueReader(connection, QueueRegistry({NAME}), "celery")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert reader.measure(WorkerReports(), Deadline.after(5)).queues == {}
    (line,) = caplog.messages
    assert line.startswith(f"queue {NAME} cannot be read: ")


def test_a_queue_is_logged_again_after_it_could_be_read(
    connection: RedisConnection, caplog: pytest.LogCaptureFixture
) -> None:
    reader = RedisQueueReader(connection, QueueRegistry({NAME}), "celery")
    with caplog.at_level(logging.WARNING):
        for readable in (False, True, False):
            connection.redis().delete(NAME)
            if not readable:
                connection.redis().set(NAME, b"")
            assert bool(reader.measure(WorkerReports(), Deadline.after(5)).queues) is readable
    assert len(caplog.messages) == 2
