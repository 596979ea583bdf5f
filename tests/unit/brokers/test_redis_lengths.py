"""Lengths on Redis: the lists of other priority steps are read only where one exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from celery_vitals.brokers.redis.lengths import QueueLengths

NAMES = [f"q{number:03}" for number in range(150)]


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
        self._run("exists", lambda: sum(key in self.lists for key in keys))

    def execute(self, raise_on_error: bool) -> list[Any]:
        answers, self._answers = self._answers, []
        return answers

    def _run(self, command: str, answer: Callable[[], int]) -> None:
        self.commands.append(command)
        self._answers.append(NoPermissionError(command) if command == self.denied else answer())


def reader(client: FakeRedis, steps: tuple[int, ...] = (0, 3, 6, 9)) -> QueueLengths:
    return QueueLengths(client, steps, lambda name, step: f"{name}:{step}")


def read(
    client: FakeRedis, lengths: QueueLengths | None = None, names: list[str] = NAMES
) -> dict[str, list[Any]]:
    lengths = lengths or reader(client)
    client.commands.clear()
    requested = lengths.request(client, names)
    answers = client.execute(raise_on_error=False)
    assert len(answers) == requested
    return dict(zip(names, lengths.take(names, answers), strict=True))


def test_missing_lists_of_other_steps_are_not_requested() -> None:
    client = FakeRedis({"q007:0": 5})
    found = read(client)
    assert found["q007"] == [5, 0, 0, 0]
    assert set(map(tuple, found.values())) == {(5, 0, 0, 0), (0, 0, 0, 0)}
    assert (client.commands.count("llen"), client.commands.count("exists")) == (150, 2)


def test_other_steps_are_read_for_the_hundred_queues_with_such_a_list() -> None:
    client = FakeRedis({"q120:0": 1, "q120:6": 2, "q121:9": 3})
    found = read(client)
    assert (found["q120"], found["q121"], found["q122"]) == ([1, 0, 2, 0], [0, 0, 0, 3], [0] * 4)
    assert client.commands.count("llen") == 150 + 50 * 4


def test_queues_that_had_such_a_list_are_read_at_once_from_then_on() -> None:
    client = FakeRedis({"q120:0": 1, "q120:6": 2})
    lengths = reader(client)
    read(client, lengths)
    client.lists = {"q120:3": 5}
    assert read(client, lengths)["q120"] == [0, 5, 0, 0]
    assert client.commands.count("llen") == 150 + 3
    read(client, lengths, NAMES[:100])  # forgets the queue
    assert read(client, lengths)["q120"] == [0, 5, 0, 0]
    assert client.commands.count("llen") == 150 + 50 * 4


def test_a_message_that_changes_its_step_is_not_missed() -> None:
    client = FakeRedis({"q000:3": 1})
    lengths = reader(client)
    lengths.request(client, NAMES)
    answers = client.execute(raise_on_error=False)
    client.lists = {"q000:0": 1}
    assert lengths.take(NAMES, answers)[0] == [1, 0, 0, 0]


@pytest.mark.parametrize("there", [True, False])
def test_a_list_that_changes_after_the_check_has_one_of_its_lengths(there: bool) -> None:
    client = FakeRedis({"q000:3": 1} if there else {})
    lengths = reader(client)
    lengths.request(client, NAMES)
    answers = client.execute(raise_on_error=False)
    client.lists = {} if there else {"q000:3": 1}
    assert lengths.take(NAMES, answers)[0] == [0, 0, 0, 0]


@pytest.mark.parametrize("lists", [{}, {"q000:3": 4}])
def test_without_permission_for_exists_all_lists_are_read(lists: dict[str, int]) -> None:
    client = FakeRedis(lists, denied="exists")
    lengths = reader(client)
    for requests in (150 + 150 * 4, 150 * 4):
        assert read(client, lengths)["q000"] == [0, lists.get("q000:3", 0), 0, 0]
        assert client.commands.count("llen") == requests
    assert "exists" not in client.commands


def test_a_denied_length_is_in_the_place_of_the_length() -> None:
    (first, *others) = read(FakeRedis({}, denied="llen"))["q000"]
    assert isinstance(first, NoPermissionError)
    assert others == [0, 0, 0]


@pytest.mark.parametrize(("steps", "expected"), [((0,), [2]), ((), [])])
def test_a_single_step_needs_no_check(steps: tuple[int, ...], expected: list[int]) -> None:
    client = FakeRedis({"q001:0": 2})
    assert read(client, reader(client, steps))["q001"] == expected
    assert "exists" not in client.commands
