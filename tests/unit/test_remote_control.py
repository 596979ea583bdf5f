"""Remote control over a scripted mailbox, and the mailbox on a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from celery_vitals import Settings
from celery_vitals.brokers.base import Mailbox, Reply
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.intake import Intake
from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.mailbox import RedisMailbox
from celery_vitals.brokers.target import target_of
from celery_vitals.deadline import Deadline
from celery_vitals.remote_control import (
    FIRST_WAIT,
    GRACE_MIN,
    Answer,
    Command,
    RemoteControl,
)
from celery_vitals.secrets import Secret
from tests.support.servers import Broker

STATS = Command("stats")
QUEUES = Command("active_queues")
WHOLE = 20.0
"""Seconds that a round may take here; one that ends in time did not wait for them."""


class FakeMailbox:
    """Delivers each reply so many seconds after the broadcast, one at a time."""

    def __init__(self, mailboxes: int | None = None) -> None:
        self.mailboxes = mailboxes
        self.undelivered = False
        self.intake = Intake()
        self.broadcasts: list[Sequence[Mapping[str, Any]]] = []
        self.closed = False
        self.replies: Callable[[dict[str, str]], list[tuple[float, Reply]]] = lambda tickets: []
        self._due: list[tuple[float, Reply]] = []

    @property
    def address(self) -> Mapping[str, str]:
        return {"exchange": "", "routing_key": "here"}

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        self.broadcasts.append(messages)
        now = time.monotonic()
        tickets = {message["method"]: message["ticket"] for message in messages}
        self._due += [(now + seconds, reply) for seconds, reply in self.replies(tickets)]
        self._due.sort(key=lambda pair: pair[0])
        return self.mailboxes

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        if self._due and self._due[0][0] < deadline.at:
            at, reply = self._due.pop(0)
            time.sleep(max(0.0, at - time.monotonic()))
            return [reply]
        time.sleep(deadline.remaining)
        return []

    def close(self, *_: Any) -> None:
        self.closed = True


@pytest.fixture
def mailbox() -> FakeMailbox:
    box = FakeMailbox()
    protocol: Mailbox = box
    assert protocol.address
    return box


def answering(**seconds: float) -> Callable[[dict[str, str]], list[tuple[float, Reply]]]:
    """Every command answered by these workers, each after so many seconds."""
    return lambda tickets: [
        (after, Reply(ticket, {name: {"to": method}}))
        for method, ticket in tickets.items()
        for name, after in seconds.items()
    ]


def ask(
    control: RemoteControl,
    *expected: str,
    commands: Sequence[Command] = (STATS,),
    seconds: float = WHOLE,
) -> tuple[list[Answer], float]:
    """The answers, and how long they took."""
    started = time.monotonic()
    answers = control.ask(commands, frozenset(expected), Deadline.after(seconds))
    return answers, time.monotonic() - started


def names(answers: Sequence[Answer]) -> list[str]:
    return sorted(answer.worker for answer in answers)


class TestRoundEnds:
    def test_when_all_expected_have_answered_and_no_other_mailbox_exists(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.mailboxes, mailbox.replies = 2, answering(a=0.05, b=0.1)
        answers, seconds = ask(RemoteControl(mailbox), "a", "b")
        assert names(answers) == ["a", "b"]
        assert seconds < 1

    def test_when_all_mailboxes_have_answered_although_others_were_expected(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.mailboxes, mailbox.replies = 1, answering(a=0.05)
        answers, seconds = ask(RemoteControl(mailbox), "a", "killed", commands=(STATS, QUEUES))
        assert names(answers) == ["a", "a"]
        assert seconds < 1

    def test_after_a_short_grace_where_the_number_of_mailboxes_is_unknown(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.replies = answering(a=0.05, new=0.08)
        answers, seconds = ask(RemoteControl(mailbox), "a")
        assert names(answers) == ["a", "new"]
        assert seconds < 1

    def test_grace_period_is_short(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(a=0.001, slow=3.0)
        answers, seconds = ask(RemoteControl(mailbox), "a")
        assert names(answers) == ["a"]
        assert GRACE_MIN <= seconds < 1

    def test_after_the_grace_when_an_unexpected_worker_is_frozen(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.mailboxes, mailbox.replies = 2, answering(a=0.01)
        answers, seconds = ask(RemoteControl(mailbox), "a")
        assert names(answers) == ["a"]
        assert seconds < 1

    def test_at_the_deadline_when_an_expected_worker_is_silent(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(a=0.01)
        answers, seconds = ask(RemoteControl(mailbox), "a", "silent", seconds=0.4)
        assert names(answers) == ["a"]
        assert 0.3 < seconds < 1

    def test_a_reply_does_not_restart_the_deadline(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(**{f"w{i}": 0.2 * i for i in range(1, 20)})
        _, seconds = ask(RemoteControl(mailbox), *(f"w{i}" for i in range(1, 21)), seconds=1.0)
        assert 0.9 < seconds < 1.5

    def test_at_once_when_the_broker_has_no_mailboxes(self, mailbox: FakeMailbox) -> None:
        mailbox.mailboxes = 0
        answers, seconds = ask(RemoteControl(mailbox), "a")
        assert answers == []
        assert seconds < 0.5

    def test_at_once_when_the_broker_returns_the_broadcast(self, mailbox: FakeMailbox) -> None:
        mailbox.undelivered = True
        assert ask(RemoteControl(mailbox), "a")[1] < 0.5

    def test_after_the_first_wait_when_no_worker_is_known(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(a=0.01, b=0.5)
        answers, seconds = ask(RemoteControl(mailbox))
        assert names(answers) == ["a", "b"]
        assert FIRST_WAIT <= seconds < FIRST_WAIT + 1

    def test_at_once_in_the_first_round_when_all_mailboxes_have_answered(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.mailboxes, mailbox.replies = 2, answering(a=0.01, b=0.02)
        answers, seconds = ask(RemoteControl(mailbox), commands=(STATS, QUEUES))
        assert names(answers) == ["a", "a", "b", "b"]
        assert seconds < 0.5

    def test_a_worker_that_replies_after_a_second_and_a_half_is_awaited(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.mailboxes, mailbox.replies = 2, answering(a=0.01, slow=1.5)
        answers, seconds = ask(RemoteControl(mailbox), "a", "slow", seconds=10.0)
        assert names(answers) == ["a", "slow"]
        assert 1.5 <= seconds < 5


class TestSilent:
    def test_silent_mailboxes_are_counted(self, mailbox: FakeMailbox) -> None:
        control = RemoteControl(mailbox)
        assert control.silent is None
        mailbox.mailboxes, mailbox.replies = 3, answering(a=0.01)
        ask(control, "a", "frozen", seconds=0.2)
        assert control.silent == 2
        mailbox.replies = answering(a=0.0, frozen=0.0, beat=0.0)
        ask(control, "a", "frozen")
        assert control.silent == 0

    def test_silent_is_none_where_the_number_of_mailboxes_is_unknown(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.replies = answering(a=0.01)
        control = RemoteControl(mailbox)
        ask(control, "a")
        assert control.silent is None


class TestCommands:
    def test_all_commands_are_in_one_broadcast_each_with_a_ticket(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.mailboxes, mailbox.replies = 1, answering(a=0.01)
        answers, _ = ask(RemoteControl(mailbox), "a", commands=(STATS, QUEUES))
        assert {(answer.method, answer.body["to"]) for answer in answers} == {
            ("stats",) * 2,
            ("active_queues",) * 2,
        }
        ((first, second),) = mailbox.broadcasts
        assert first["ticket"] != second["ticket"]
        assert first["reply_to"] == second["reply_to"] == {"exchange": "", "routing_key": "here"}
        assert first["destination"] is None

    def test_only_the_destination_of_a_command_is_awaited(self, mailbox: FakeMailbox) -> None:
        mailbox.mailboxes = 2
        mailbox.replies = lambda tickets: [
            (0.01, Reply(tickets["stats"], {"a": {}})),
            (0.01, Reply(tickets["stats"], {"b": {}})),
            (0.02, Reply(tickets["active_queues"], {"b": []})),
        ]
        only_b = Command("active_queues", frozenset({"b"}))
        answers, seconds = ask(RemoteControl(mailbox), "a", "b", commands=(STATS, only_b))
        assert names(answers) == ["a", "b", "b"]
        assert seconds < 1
        assert mailbox.broadcasts[0][1]["destination"] == ["b"]

    def test_closing_removes_the_mailbox(self, mailbox: FakeMailbox) -> None:
        RemoteControl(mailbox).close()
        assert mailbox.closed


class TestAnswers:
    def test_answers_to_an_earlier_round_are_late_and_have_the_whole_time(
        self, mailbox: FakeMailbox
    ) -> None:
        control = RemoteControl(mailbox)
        mailbox.replies = answering(slow=0.3)
        assert ask(control, "slow", seconds=0.1)[0] == []
        mailbox.replies = lambda tickets: []
        (answer,), _ = ask(control, "slow", seconds=0.5)
        assert answer.late
        assert answer.worker == "slow"
        assert answer.seconds >= 0.3

    def test_a_late_answer_does_not_end_the_round(self, mailbox: FakeMailbox) -> None:
        control = RemoteControl(mailbox)
        mailbox.mailboxes, mailbox.replies = 1, answering(a=0.3)
        ask(control, "a", seconds=0.1)
        answers, _ = ask(control, "a", seconds=5.0)
        assert [answer.late for answer in answers] == [True, False]

    def test_answers_with_an_unknown_ticket_are_left_out(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = lambda tickets: [
            (0.01, Reply("foreign", {"unknown": {}})),
            *answering(a=0.02)(tickets),
        ]
        assert names(ask(RemoteControl(mailbox), "a")[0]) == ["a"]

    def test_a_duplicate_answer_does_not_stand_for_a_missing_one(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.replies = lambda tickets: answering(a=0.01)(tickets) * 2
        _, seconds = ask(RemoteControl(mailbox), "a", "b", seconds=0.4)
        assert seconds >= 0.4

    def test_tickets_of_old_rounds_are_forgotten(self, mailbox: FakeMailbox) -> None:
        control = RemoteControl(mailbox)
        mailbox.mailboxes = 0
        for _ in range(1000):
            ask(control, "a")
        old = mailbox.broadcasts[0][0]["ticket"]
        mailbox.mailboxes, mailbox.replies = None, lambda tickets: [(0.0, Reply(old, {"a": {}}))]
        assert ask(control, "a", seconds=0.1)[0] == []


@pytest.fixture
def connection(redis_broker: Broker) -> Iterator[RedisConnection]:
    connection = BrokerClient(
        target_of(Settings(broker_url=Secret(redis_broker.url))), 1.0
    ).connect(Deadline.after(5))
    assert isinstance(connection, RedisConnection)
    yield connection
    connection.close()


def reply(ticket: str) -> bytes:
    return f'{{"body": "{{}}", "headers": {{"ticket": "{ticket}"}}, "properties": {{}}}}'.encode()


class TestOnRedis:
    def test_replies_are_in_the_order_in_which_they_were_sent(
        self, connection: RedisConnection
    ) -> None:
        box, redis = RedisMailbox(connection, "celery"), connection.redis()
        for ticket in ("1", "2", "3"):
            redis.lpush(box.address["routing_key"], reply(ticket))  # as kombu does
        assert [one.ticket for one in box.receive(Deadline.after(1))] == ["1", "2", "3"]

    @pytest.mark.parametrize(
        "junk",
        [
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"body": 1, "headers": null}',
            b'{"body": "!", "headers": {"ticket": "1"}}',
        ],
    )
    def test_a_reply_that_cannot_be_decoded_is_left_out(
        self, connection: RedisConnection, junk: bytes
    ) -> None:
        box, redis = RedisMailbox(connection, "celery"), connection.redis()
        redis.lpush(box.address["routing_key"], junk, reply("1"))
        assert [one.ticket for one in box.receive(Deadline.after(1))] == ["1"]

    def test_receive_ends_at_its_deadline(self, connection: RedisConnection) -> None:
        box, started = RedisMailbox(connection, "celery"), time.monotonic()
        assert box.receive(Deadline.after(0.3)) == ()
        assert 0.2 < time.monotonic() - started < 1

    def test_a_broadcast_without_workers_has_no_mailboxes(
        self, connection: RedisConnection
    ) -> None:
        assert RedisMailbox(connection, "celery").broadcast([{"method": "stats"}]) == 0
