"""The queues of dead letters by bindings, and the requests that are sent rarely."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from celery_vitals.brokers.rabbitmq.dead_letters import (
    Binding,
    Bindings,
    DeadLetterRoute,
    bindings_in,
    exchange_types,
)
from celery_vitals.brokers.rabbitmq.management import ManagementUnavailable
from celery_vitals.brokers.rabbitmq.management_answers import (
    completed,
    dropped_messages,
    queue_infos,
)
from celery_vitals.brokers.rabbitmq.rare_requests import RareRequests
from celery_vitals.deadline import Deadline

TYPES = {"": "direct", "d": "direct", "f": "fanout", "t": "topic", "h": "headers"}


def dead_letter_queues(
    exchange: str, key: str | None, *bound: tuple[str, str, str]
) -> set[str] | None:
    """Return where the dead letters of the queue `q` go, with these bindings and its own."""
    rows = [Binding(source, name, name in TYPES, key) for source, name, key in bound]
    own = Binding("", "q", False, "q")
    found = Bindings(TYPES, [own, *rows]).dead_letter_queues("q", DeadLetterRoute(exchange, key))
    return None if found is None else set(found)


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("#", "", True),
        ("#", "a.b", True),
        ("a.#", "a", True),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.x.y.b", True),
        ("a.#.b", "a.x", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("*", "", False),
        ("a.*.c", "a.b.c", True),
        ("", "", True),
        ("", "a", False),
        ("a", "a", True),
        ("a+", "aa", False),
        (".".join(["#"] * 120), ".".join(["a"] * 120), True),
        (".".join(["#", "b"] * 60), ".".join(["a"] * 120), False),
    ],
)
def test_keys_match_the_pattern_of_a_topic_exchange(pattern: str, key: str, matches: bool) -> None:
    expected = {"dead"} if matches else set()
    assert dead_letter_queues("t", key, ("t", "dead", pattern)) == expected


def test_the_key_of_the_message_is_that_of_its_bindings() -> None:
    bound = ("d", "dead", "q"), ("d", "dead.other", "other"), ("d", "q", "orders")
    assert dead_letter_queues("d", None, *bound) == {"dead"}
    assert dead_letter_queues("d", None, *bound, ("d", "dead.orders", "orders")) == {
        "dead",
        "dead.orders",
    }


def test_all_queues_are_possible_where_the_key_of_the_message_is_unknown() -> None:
    bound = ("d", "dead", "x"), ("d", "dead.other", "other")
    assert dead_letter_queues("d", None, *bound, ("t", "q", "orders.#")) == {"dead", "dead.other"}
    assert dead_letter_queues("d", None, *bound, ("f", "q", "")) == {"dead", "dead.other"}
    assert dead_letter_queues("d", None, ("f", "q", "")) is None
    assert dead_letter_queues("", None, ("f", "q", "")) is None


def test_dead_letters_that_no_queue_receives() -> None:
    assert dead_letter_queues("d", "key") == set()
    assert dead_letter_queues("missing", None) == set()
    assert dead_letter_queues("", None) == set()  # they would return to the queue itself
    assert dead_letter_queues("f", "key", ("f", "q", "")) == set()


def test_exchanges_bound_to_exchanges_are_followed_once() -> None:
    bound = ("f", "d", ""), ("d", "f", "key"), ("d", "dead", "key"), ("f", "h", "")
    assert dead_letter_queues("f", "key", *bound, ("h", "any", "")) == {"dead", "any"}


@pytest.mark.parametrize("rows", [None, 5, "x", [1], ["x"], {"error": "x"}, [[]], [{}]])
def test_answers_of_another_form(rows: Any) -> None:
    for parse in (bindings_in, exchange_types, lambda rows: dropped_messages(rows, "/")):
        with pytest.raises((TypeError, KeyError)):
            parse(rows)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"name": "/", "message_stats": {"drop_unroutable": 5}}, 5),
        ({"name": "/", "message_stats": {"drop_unroutable": "5"}}, None),
        ({"name": "/", "message_stats": {}}, None),
        ({"name": "/", "message_stats": []}, None),
        ({"name": "/"}, None),
        ({"name": "other", "message_stats": {"drop_unroutable": 5}}, None),
    ],
)
def test_dropped_messages_are_those_of_the_virtual_host(row: Any, expected: int | None) -> None:
    assert dropped_messages([row], "/") == expected


def test_an_argument_has_precedence_over_a_policy() -> None:
    policy = {"dead-letter-exchange": "p", "dead-letter-routing-key": "k"}
    statistics = queue_infos([{"name": "q", "effective_policy_definition": policy}])["q"]
    for arguments, route in (
        ({}, DeadLetterRoute("p", "k")),
        ({"x-dead-letter-exchange": ""}, DeadLetterRoute("", "k")),
        ({"x-dead-letter-exchange": 5}, DeadLetterRoute("p", "k")),
    ):
        info = queue_infos([{"name": "q", "arguments": arguments}])["q"]
        assert completed(info, statistics).dead_letter_route == route
    assert queue_infos([{"name": "q", "arguments": None}])["q"].dead_letter_route is None


class Management:
    """An API that counts the requests."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.count: int | None = 10
        self.fails = False

    def _answer(self, name: str, answer: Any) -> Any:
        self.requests.append(name)
        if self.fails:
            raise ManagementUnavailable("no")
        return answer

    def dropped(self, *_: Any) -> int | None:
        answer: int | None = self._answer("dropped", self.count)
        return answer

    def exchanges(self, *_: Any) -> dict[str, str]:
        answer: dict[str, str] = self._answer("exchanges", TYPES)
        return answer

    def bindings(self, *_: Any) -> list[Binding]:
        answer: list[Binding] = self._answer("bindings", [Binding("d", "dead", False, "k")])
        return answer


class Scrapes:
    """Rare requests, and a clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.api = Management()
        self.rare = RareRequests(cast(Any, self.api))
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def scrape(self, seconds: float = 0.0, routes: bool = True) -> int | None:
        self.now += seconds
        self.rare.update(cast(Any, None), Deadline.after(1), routes)
        return self.rare.dropped


@pytest.fixture
def scrapes(monkeypatch: pytest.MonkeyPatch) -> Scrapes:
    return Scrapes(monkeypatch)


def test_a_scrape_causes_one_request_and_an_answer_is_reused(scrapes: Scrapes) -> None:
    for expected in (1, 2, 3, 3, 3):
        scrapes.scrape(1.0)
        assert len(scrapes.api.requests) == expected
    scrapes.scrape(30.0)
    assert scrapes.api.requests == ["dropped", "exchanges", "bindings", "dropped"]
    for _ in range(60):
        scrapes.scrape(10.0)
    assert 18 <= scrapes.api.requests.count("dropped") <= 22
    assert scrapes.api.requests.count("bindings") == scrapes.api.requests.count("exchanges") == 3


def test_bindings_are_not_requested_where_no_queue_has_dead_letters(scrapes: Scrapes) -> None:
    for _ in range(3):
        scrapes.scrape(1.0, routes=False)
    assert scrapes.api.requests == ["dropped"]
    assert scrapes.rare.dead_letters({}) == {}


def test_dead_letters_are_unknown_until_both_answers(scrapes: Scrapes) -> None:
    routes = {"q": DeadLetterRoute("d", "k")}
    for expected in ({}, {}, {"q": {"dead"}}):
        scrapes.scrape(1.0)
        assert scrapes.rare.dead_letters(routes) == expected
    assert scrapes.rare.dead_letters({"q": DeadLetterRoute("d", "x")}) == {"q": set()}


def test_a_node_that_restarts_does_not_increase_the_count(scrapes: Scrapes) -> None:
    assert scrapes.scrape() == 0
    counts: list[tuple[int | None, int | None]] = [(15, 5), (3, 5), (9, 11), (None, None), (10, 12)]
    for count, expected in counts:
        scrapes.api.count = count
        assert scrapes.scrape(30.0, routes=False) == expected


def test_a_failed_request_leaves_the_count_unknown(scrapes: Scrapes) -> None:
    scrapes.scrape(routes=False)
    scrapes.api.fails = True
    assert scrapes.scrape(30.0, routes=False) is None
    scrapes.api.fails, scrapes.api.count = False, 13
    assert scrapes.scrape(5.0, routes=False) is None  # not requested by each scrape
    assert scrapes.scrape(30.0, routes=False) == 3
