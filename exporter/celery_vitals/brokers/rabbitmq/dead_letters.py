"""The queues that receive the dead letters of other queues, by exchanges and bindings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Keys = frozenset[str]


@dataclass(frozen=True)
class DeadLetterRoute:
    """Where a queue sends its dead letters."""

    exchange: str
    key: str | None
    """Their routing key; None where they keep that of the message."""


@dataclass(frozen=True)
class Binding:
    """A binding of a queue or an exchange."""

    source: str
    destination: str
    to_exchange: bool
    key: str


class Bindings:
    """The exchanges and bindings of a virtual host."""

    def __init__(self, types: Mapping[str, str], bindings: Iterable[Binding]) -> None:
        """`types` are the types of the exchanges by name."""
        self._types = types
        self._from: defaultdict[str, defaultdict[str, list[Binding]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self._to: defaultdict[str, list[Binding]] = defaultdict(list)
        for one in bindings:
            self._from[one.source][one.key].append(one)
            if not one.to_exchange:
                self._to[one.destination].append(one)

    def dead_letter_queues(self, queue: str, route: DeadLetterRoute) -> frozenset[str] | None:
        """Return the other queues that receive the dead letters of a queue.

        None where that depends on the messages.
        """
        keys = frozenset((route.key,)) if route.key is not None else self._keys_of(queue)
        if keys is None and route.exchange == "":
            return None
        found = self._queues(route.exchange, keys, set()) - {queue}
        return frozenset(found) if found or keys is not None else None

    def _keys_of(self, queue: str) -> Keys | None:
        """Return the routing keys of the messages to a queue; None where any is possible."""
        for one in self._to[queue]:
            kind = self._types.get(one.source)
            if kind != "direct" and (kind != "topic" or {"*", "#"} & set(one.key.split("."))):
                return None
        return frozenset(one.key for one in self._to[queue])

    def _queues(self, exchange: str, keys: Keys | None, followed: set[str]) -> set[str]:
        found: set[str] = set()
        followed.add(exchange)
        for one in self._matching(exchange, keys):
            if not one.to_exchange:
                found.add(one.destination)
            elif one.destination not in followed:
                found |= self._queues(one.destination, keys, followed)
        return found

    def _matching(self, exchange: str, keys: Keys | None) -> Iterator[Binding]:
        kind = self._types.get(exchange)
        by_key: Mapping[str, list[Binding]] = self._from.get(exchange, {})
        for key in keys if keys is not None and kind == "direct" else by_key:
            matches = kind != "topic" or keys is None or any(_matches(key, one) for one in keys)
            yield from by_key.get(key, ()) if matches else ()


def bindings_in(rows: Any) -> list[Binding]:
    """Return the bindings of an answer.  Raises TypeError or KeyError for another answer."""
    return [
        Binding(
            str(row["source"]),
            str(row["destination"]),
            row["destination_type"] == "exchange",
            str(row["routing_key"]),
        )
        for row in rows
    ]


def exchange_types(rows: Any) -> dict[str, str]:
    """Return the types of exchanges by name.  Raises TypeError or KeyError for another answer."""
    return {str(row["name"]): str(row["type"]) for row in rows}


def _matches(pattern: str, key: str) -> bool:
    """Return whether a routing key matches the pattern of a topic exchange."""
    words = key.split(".") if key else []
    places = {0}
    """How many of the words the first parts of the pattern may have matched."""
    for part in pattern.split(".") if pattern else []:
        if part == "#":
            places = set(range(min(places), len(words) + 1)) if places else places
        else:
            places = {
                place + 1 for place in places if place < len(words) and part in ("*", words[place])
            }
    return len(words) in places
