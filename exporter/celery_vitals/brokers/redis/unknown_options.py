"""Transport options of an application that the exporter does not know, proven by bindings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from celery_vitals.blind_spots import BlindSpot

_NAMED = 3
_SETTING = "--broker-transport-option"


@dataclass(frozen=True)
class UnknownOptions:
    """The queues whose messages are kept under keys that no known option names."""

    separator: frozenset[str] = frozenset()
    """Queues declared with an unknown separator."""
    prefix: frozenset[str] = frozenset()
    """Queues declared under a prefix only, where the exporter has none."""
    separator_unknown: bool = False
    """Whether any queue is declared with an unknown separator."""
    prefix_unknown: bool = False
    """Whether all queues are declared under a prefix, where the exporter has none."""

    @property
    def queues(self) -> frozenset[str]:
        """The queues whose length is unknown."""
        return self.separator | self.prefix

    def blind_spots(self) -> Iterator[BlindSpot]:
        """Iterate over the options that are missing."""
        for found, queues, option in (
            (self.separator_unknown, self.separator, "separator (transport option sep)"),
            (self.prefix_unknown, self.prefix, "key prefix (transport option global_keyprefix)"),
        ):
            if found or queues:
                names = ", ".join(sorted(queues)[:_NAMED]) + (
                    " and others" if len(queues) > _NAMED else ""
                )
                yield BlindSpot(
                    "queue_length",
                    f"The lengths of {names or 'some queues'} are not read: the application uses"
                    f" another {option} than the exporter, and no worker has reported it.",
                    _SETTING,
                )


def bound_queues(members: Iterable[str], queues: Iterable[str]) -> frozenset[str]:
    """Return those of the queues that bindings with an unknown separator may bind."""
    members = tuple(members)
    return frozenset(
        queue
        for queue in (queues if members else ())
        if any(_may_bind(one, queue) for one in members)
    )


def _may_bind(member: str, queue: str) -> bool:
    """Return whether a binding with an unknown separator may bind this queue.

    It ends in a pattern, which is empty or a regular expression, the separator and the queue.
    """
    if not member.endswith(queue):
        return False
    rest = member.removesuffix(queue)
    lengths = range(1, len(rest) // 2 + 1)
    return "$" in rest or any(rest[-length:] == rest[-2 * length : -length] for length in lengths)
