"""Remote control over a mailbox that does what a test tells it, and the mailbox on a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from celery_vitals import Settings
from celery_vitals.brokers import BrokerClient, BrokerConnection, target_of
from celery_vitals.brokers.redis.mailbox import RedisMailbox
from celery_vitals.deadline import Deadline
from celery_vitals.remote_control import (
    FIRST_WAIT,
    GRACE_MIN,
    Answer,
    Command,
    Control,
    Mailbox,
    Reply,
)
from celery_vitals.secrets import Secret
from tests.support.servers import Broker

STATS = Command("stats")
QUEUES = Command("active_queues")
WHOLE = 20.0
"""Seconds that a round may take here; one that ends in time did not wait for them."""


class FakeMailbox:
    """Delivers each reply so many seconds after the broadcast, one at a time."""

    def __init__(self, listeners: int | None = None) -> None:
        self.listeners = listeners
        self.unheard = False
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
        return self.listeners

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
    control: Control, *expected: str, commands: Sequence[Command] = (STATS,), seconds: float = WHOLE
) -> tuple[list[Answer], float]:
    """The answers, and how long they took."""
    started = time.monotonic()
    answers = control.ask(commands, frozenset(expected), Deadline.after(seconds))
    return answers, time.monotonic() - started


def names(answers: Sequence[Answer]) -> list[str]:
    return sorted(answer.worker for answer in answers)


class TestEnds:
    def test_as_soon_as_all_expected_have_answered_and_nobody_else_listens(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.listeners, mailbox.replies = 2, answering(a=0.05, b=0.1)
        answers, seconds = ask(Control(mailbox), "a", "b")
        assert names(answers) == ["a", "b"]
        assert seconds < 1

    def test_when_all_who_listen_have_answered_although_others_were_expected(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.listeners, mailbox.replies = 1, answering(a=0.05)
        answers, seconds = ask(Control(mailbox), "a", "killed", commands=(STATS, QUEUES))
        assert names(answers) == ["a", "a"]
        assert seconds < 1

    def test_after_a_short_grace_where_it_is_not_known_who_listens(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.replies = answering(a=0.05, new=0.08)
        answers, seconds = ask(Control(mailbox), "a")
        assert names(answers) == ["a", "new"]
        assert seconds < 1

    def test_the_grace_is_short(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(a=0.001, slow=3.0)
        answers, seconds = ask(Control(mailbox), "a")
        assert names(answers) == ["a"]
        assert GRACE_MIN <= seconds < 1

    def test_after_the_grace_when_a_frozen_one_listens_that_nobody_expects(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.listeners, mailbox.replies = 2, answering(a=0.01)
        answers, seconds = ask(Control(mailbox), "a")
        assert names(answers) == ["a"]
        assert seconds < 1

    def test_at_the_deadline_when_one_expected_is_silent(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(a=0.01)
        answers, seconds = ask(Control(mailbox), "a", "silent", seconds=0.4)
        assert names(answers) == ["a"]
        assert 0.3 < seconds < 1

    def test_each_reply_does_not_restart_the_time(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(**{f"w{i}": 0.2 * i for i in range(1, 20)})
        _, seconds = ask(Control(mailbox), *(f"w{i}" for i in range(1, 21)), seconds=1.0)
        assert 0.9 < seconds < 1.5

    def test_at_once_when_the_broker_says_that_nobody_listens(self, mailbox: FakeMailbox) -> None:
        mailbox.listeners = 0
        answers, seconds = ask(Control(mailbox), "a")
        assert answers == []
        assert seconds < 0.5

    def test_at_once_when_the_broker_gives_the_broadcast_back(self, mailbox: FakeMailbox) -> None:
        mailbox.unheard = True
        assert ask(Control(mailbox), "a")[1] < 0.5

    def test_after_the_first_wait_when_nobody_is_known(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = answering(a=0.01, b=0.5)
        answers, seconds = ask(Control(mailbox))
        assert names(answers) == ["a", "b"]
        assert FIRST_WAIT <= seconds < FIRST_WAIT + 1

    def test_at_once_in_the_first_round_as_well_when_all_who_listen_have_answered(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.listeners, mailbox.replies = 2, answering(a=0.01, b=0.02)
        answers, seconds = ask(Control(mailbox), commands=(STATS, QUEUES))
        assert names(answers) == ["a", "a", "b", "b"]
        assert seconds < 0.5

    def test_one_that_takes_a_second_and_a_half_is_waited_for(self, mailbox: FakeMailbox) -> None:
        mailbox.listeners, mailbox.replies = 2, answering(a=0.01, slow=1.5)
        answers, seconds = ask(Control(mailbox), "a", "slow", seconds=10.0)
        assert names(answers) == ["a", "slow"]
        assert 1.5 <= seconds < 5


class TestSilent:
    def test_those_who_listen_and_have_not_answered_are_counted(self, mailbox: FakeMailbox) -> None:
        control = Control(mailbox)
        assert control.silent is None
        mailbox.listeners, mailbox.replies = 3, answering(a=0.01)
        ask(control, "a", "frozen", seconds=0.2)
        assert control.silent == 2
        mailbox.replies = answering(a=0.0, frozen=0.0, beat=0.0)
        ask(control, "a", "frozen")
        assert control.silent == 0

    def test_they_are_not_known_where_the_broker_does_not_tell_who_listens(
        self, mailbox: FakeMailbox
    ) -> None:
        mailbox.replies = answering(a=0.01)
        control = Control(mailbox)
        ask(control, "a")
        assert control.silent is None


class TestCommands:
    def test_all_go_out_in_one_broadcast_each_with_a_ticket(self, mailbox: FakeMailbox) -> None:
        mailbox.listeners, mailbox.replies = 1, answering(a=0.01)
        answers, _ = ask(Control(mailbox), "a", commands=(STATS, QUEUES))
        assert {(answer.method, answer.body["to"]) for answer in answers} == {
            ("stats",) * 2,
            ("active_queues",) * 2,
        }
        ((first, second),) = mailbox.broadcasts
        assert first["ticket"] != second["ticket"]
        assert first["reply_to"] == second["reply_to"] == {"exchange": "", "routing_key": "here"}
        assert first["destination"] is None

    def test_only_those_asked_are_waited_for(self, mailbox: FakeMailbox) -> None:
        mailbox.listeners = 2
        mailbox.replies = lambda tickets: [
            (0.01, Reply(tickets["stats"], {"a": {}})),
            (0.01, Reply(tickets["stats"], {"b": {}})),
            (0.02, Reply(tickets["active_queues"], {"b": []})),
        ]
        only_b = Command("active_queues", frozenset({"b"}))
        answers, seconds = ask(Control(mailbox), "a", "b", commands=(STATS, only_b))
        assert names(answers) == ["a", "b", "b"]
        assert seconds < 1
        assert mailbox.broadcasts[0][1]["destination"] == ["b"]

    def test_closing_removes_the_mailbox(self, mailbox: FakeMailbox) -> None:
        Control(mailbox).close()
        assert mailbox.closed


class TestAnswers:
    def test_to_an_earlier_round_are_late_and_tell_the_whole_time(
        self, mailbox: FakeMailbox
    ) -> None:
        control = Control(mailbox)
        mailbox.replies = answering(slow=0.3)
        assert ask(control, "slow", seconds=0.1)[0] == []
        mailbox.replies = lambda tickets: []
        (answer,), _ = ask(control, "slow", seconds=0.5)
        assert answer.late
        assert answer.worker == "slow"
        assert answer.seconds >= 0.3

    def test_a_late_one_does_not_end_the_round(self, mailbox: FakeMailbox) -> None:
        control = Control(mailbox)
        mailbox.listeners, mailbox.replies = 1, answering(a=0.3)
        ask(control, "a", seconds=0.1)
        answers, _ = ask(control, "a", seconds=5.0)
        assert [answer.late for answer in answers] == [True, False]

    def test_to_nobody_s_question_are_left_out(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = lambda tickets: [
            (0.01, Reply("foreign", {"stranger": {}})),
            *answering(a=0.02)(tickets),
        ]
        assert names(ask(Control(mailbox), "a")[0]) == ["a"]

    def test_that_came_twice_do_not_hide_who_is_missing(self, mailbox: FakeMailbox) -> None:
        mailbox.replies = lambda tickets: answering(a=0.01)(tickets) * 2
        _, seconds = ask(Control(mailbox), "a", "b", seconds=0.4)
        assert seconds >= 0.4

    def test_of_rounds_long_past_are_forgotten(self, mailbox: FakeMailbox) -> None:
        control = Control(mailbox)
        mailbox.listeners = 0
        for _ in range(1000):
            ask(control, "a")
        old = mailbox.broadcasts[0][0]["ticket"]
        mailbox.listeners, mailbox.replies = None, lambda tickets: [(0.0, Reply(old, {"a": {}}))]
        assert ask(control, "a", seconds=0.1)[0] == []


@pytest.fixture
def connection(redis_broker: Broker) -> Iterator[BrokerConnection]:
    connection = BrokerClient(
        target_of(Settings(broker_url=Secret(redis_broker.url))), 1.0
    ).connect(Deadline.after(5))
    yield connection
    connection.close()


def reply(ticket: str) -> bytes:
    return f'{{"body": "{{}}", "headers": {{"ticket": "{ticket}"}}, "properties": {{}}}}'.encode()


class TestOnRedis:
    def test_replies_come_in_the_order_in_which_they_were_sent(
        self, connection: BrokerConnection
    ) -> None:
        box, redis = RedisMailbox(connection, "celery"), connection.redis()
        for ticket in ("1", "2", "3"):
            redis.lpush(box.address["routing_key"], reply(ticket))  # as kombu does
        assert [one.ticket for one in box.receive(Deadline.after(1))] == ["1", "2", "3"]

    @pytest.mark.parametrize(
        "nonsense",
        [
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"body": 1, "headers": null}',
            b'{"body": "!", "headers": {"ticket": "1"}}',
        ],
    )
    def test_a_reply_that_cannot_be_read_is_left_out(
        self, connection: BrokerConnection, nonsense: bytes
    ) -> None:
        box, redis = RedisMailbox(connection, "celery"), connection.redis()
        redis.lpush(box.address["routing_key"], nonsense, reply("1"))
        assert [one.ticket for one in box.receive(Deadline.after(1))] == ["1"]

    def test_it_waits_no_longer_than_it_may(self, connection: BrokerConnection) -> None:
        box, started = RedisMailbox(connection, "celery"), time.monotonic()
        assert box.receive(Deadline.after(0.3)) == ()
        assert 0.2 < time.monotonic() - started < 1

    def test_nobody_listens_where_no_worker_is(self, connection: BrokerConnection) -> None:
        assert RedisMailbox(connection, "celery").broadcast([{"method": "stats"}]) == 0
