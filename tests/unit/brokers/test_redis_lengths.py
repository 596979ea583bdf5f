"""Lengths on Redis: lists at other priority steps are read only where one exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from celery_vitals.brokers.redis.key_layout import KeyLayout
from celery_vitals.brokers.redis.lengths import QueueLengths
from celery_vitals.third_party.kombu_redis import RedisKeys

NAMES = [f"q{number:03}" for number in range(150)]


def keys(separator: str = ":", steps: tuple[float, ...] = (0, 3, 6, 9)) -> RedisKeys:
    return RedisKeys("p", "", True, "p_kombu.binding.", separator, steps, "u", "i", True)


class FakeRedis:
    """A client and its pipeline in one: lengths by key, and the commands it received."""

    def __init__(self, lists: Mapping[str, int], denied: str = "") -> None:
        self.lists = lists
        self.denied = denied
        self.commands: list[str] = []
        self._answers: list[Any] = []

    def pipeline(self, transaction: bool) -> FakeRedis:
        return self

    def llen(self, key: str) -> None:
        self._run("llen", lambda: self.lists.get(key, 0))

    def exists(self, *keys: str) -> None:
        assert keys
        self._run("exists", lambda: sum(key in self.lists for key in keys))

    def execute(self, raise_on_error: bool) -> list[Any]:
        answers, self._answers = self._answers, []
        return answers

    def _run(self, command: str, answer: Callable[[], int]) -> None:
        self.commands.append(command)
        self._answers.append(NoPermissionError(command) if command == self.denied else answer())


def reader(client: FakeRedis, *workers: RedisKeys) -> QueueLengths:
    return QueueLengths(client, KeyLayout(keys(), workers))


def read(
    client: FakeRedis, lengths: QueueLengths | None = None, names: list[str] = NAMES
) -> dict[str, dict[str, Any]]:
    """The lists that exist, by queue."""
    lengths = lengths or reader(client)
    client.commands.clear()
    requested = lengths.request(client, names)
    answers = client.execute(raise_on_error=False)
    assert len(answers) == requested
    found = lengths.take(names, answers)
    assert list(found) == names
    return {
        name: {key: length for key, length in by_key.items() if length}
        for name, by_key in found.items()
    }


def test_missing_lists_of_other_steps_are_not_requested() -> None:
    client = FakeRedis({"pq007": 5})
    found = read(client)
    assert {name: by_key for name, by_key in found.items() if by_key} == {"q007": {"pq007": 5}}
    assert (client.commands.count("llen"), client.commands.count("exists")) == (150, 2)


def test_other_steps_are_read_for_the_hundred_queues_with_such_a_list() -> None:
    client = FakeRedis({"pq120": 1, "pq120:6": 2, "pq121:5": 3})
    found = read(client)
    assert found["q120"] == {"pq120": 1, "pq120:6": 2}
    assert (found["q121"], found["q122"]) == ({"pq121:5": 3}, {})
    assert client.commands.count("llen") == 150 + 50 * 10


def test_lists_that_existed_are_read_at_once_from_then_on() -> None:
    client = FakeRedis({"pq120": 1, "pq120:6": 2})
    lengths = reader(client)
    read(client, lengths)
    client.lists = {"pq120:6": 5}
    assert read(client, lengths)["q120"] == {"pq120:6": 5}
    assert client.commands.count("llen") == 150 + 1
    read(client, lengths, NAMES[:100])  # forgets the queue
    assert read(client, lengths)["q120"] == {"pq120:6": 5}
    assert client.commands.count("llen") == 150 + 50 * 10


def test_a_message_that_changes_its_step_is_not_missed() -> None:
    client = FakeRedis({"pq000:3": 1})
    lengths = reader(client)
    lengths.request(client, NAMES)
    answers = client.execute(raise_on_error=False)
    client.lists = {"pq000": 1}
    assert sum(lengths.take(NAMES, answers)["q000"].values()) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_list_that_changes_after_the_check_has_one_of_its_lengths(there: bool) -> None:
    client = FakeRedis({"pq000:3": 1} if there else {})
    lengths = reader(client)
    lengths.request(client, NAMES)
    answers = client.execute(raise_on_error=False)
    client.lists = {} if there else {"pq000:3": 1}
    assert sum(lengths.take(NAMES, answers)["q000"].values()) == 0


@pytest.mark.parametrize("lists", [{}, {"pq000:3": 4}])
def test_without_permission_for_exists_all_lists_are_read(lists: dict[str, int]) -> None:
    client = FakeRedis(lists, denied="exists")
    lengths = reader(client)
    for requests in (150 + 150 * 10, 150 * 10):
        assert read(client, lengths)["q000"] == lists
        assert client.commands.count("llen") == requests
    assert "exists" not in client.commands


def test_a_denied_length_is_in_the_place_of_the_length() -> None:
    found = read(FakeRedis({}, denied="llen"))["q000"]
    assert [type(error) for error in found.values()] == [NoPermissionError]


def test_lists_of_all_options_are_read() -> None:
    lists = {"pq001": 1, "pq001:2": 2, "pq001|2": 3, "pq001|20": 4, "pq001:20": 5, "pq001|30": 6}
    client = FakeRedis(lists)
    found = read(client, reader(client, keys("|", (0, 20)), keys(":", (0, 1))))
    assert found["q001"] == {key: length for key, length in lists.items() if key != "pq001|30"}


class TestLayout:
    def test_steps_are_those_of_the_workers_where_they_report_them(self) -> None:
        assert KeyLayout(keys()).steps == (0, 3, 6, 9)
        assert KeyLayout(keys(), (keys(steps=(9, 1, 1)), keys(steps=(4,)))).steps == (1, 4, 9)

    @pytest.mark.parametrize(
        ("member", "route"),
        [
            ("rk::q", ("rk", "q")),
            ("rk:^rk$:q", ("rk", "q")),
            ("a:b\x06\x16\x06\x16a:b", ("a:b", "a:b")),
            ("rk||q", None),
            ("a:b::a:b", None),
        ],
    )
    def test_a_binding_is_split_at_the_longest_separator(
        self, member: str, route: tuple[str, str] | None
    ) -> None:
        layout = KeyLayout(keys(), (keys("\x06\x16"),))
        assert layout.binding(member) == route
        assert layout.separates(member) is ("|" not in member)

    def test_unacked_keys_are_unknown_where_workers_disagree(self) -> None:
        one, other = keys(), RedisKeys("p", "", True, "", ":", (0,), "held", "i", True)
        assert KeyLayout(one, (other, other)).unacked == other
        assert KeyLayout(other).unacked == other
        assert KeyLayout(one, (one, other)).unacked is None
