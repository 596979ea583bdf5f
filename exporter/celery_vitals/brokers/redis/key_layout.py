"""The keys of messages on Redis, by the options of the exporter and of the workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from celery_vitals.third_party.kombu_redis import RedisKeys

_PRIORITIES = range(10)
"""kombu limits the priority of a message to 0 to 9, and rounds it to one of the steps."""


@dataclass(frozen=True)
class KeyLayout:
    """The keys under which an application keeps its messages.

    Without the application's options the exporter's own are kombu's defaults.  A message is counted
    where any of the options keeps it: a list that does not exist costs little and adds nothing.
    """

    own: RedisKeys
    workers: tuple[RedisKeys, ...] = ()
    """Those of the workers that report transport options."""

    @cached_property
    def separators(self) -> tuple[str, ...]:
        """All separators, the longest first: a short one may be part of a queue's name."""
        found = {keys.separator for keys in (self.own, *self.workers)}
        return tuple(sorted(found, key=lambda separator: (-len(separator), separator)))

    @cached_property
    def steps(self) -> tuple[float, ...]:
        """The priority steps of the application."""
        return tuple(
            sorted({step for keys in self.workers or (self.own,) for step in keys.priority_steps})
        )

    @cached_property
    def unacked(self) -> RedisKeys | None:
        """The keys of unacknowledged messages; None where the workers disagree."""
        first, *others = self.workers or (self.own,)
        return first if all(_unacked(one) == _unacked(first) for one in others) else None

    def lists(self, queue: str) -> dict[str, float]:
        """Return the keys of a queue's lists and their priority steps, that of step 0 first.

        Producers may use other steps than the workers.
        """
        first = f"{self.own.prefix}{queue}"
        return {first: 0} | {
            f"{first}{separator}{step}": step
            for separator in self.separators
            for step in self._other_steps
        }

    @cached_property
    def _other_steps(self) -> tuple[float, ...]:
        return tuple(sorted({*_PRIORITIES, *self.steps, *self.own.priority_steps} - {0}))

    def binding(self, member: str) -> tuple[str, str] | None:
        """Return routing key and queue of a binding; None when it cannot be split."""
        for separator in self.separators:
            match member.split(separator):
                case [routing_key, _, queue]:
                    return routing_key, queue
        return None

    def separates(self, member: str) -> bool:
        """Return whether a binding has a known separator, which its names may contain, too."""
        return any(member.count(separator) > 1 for separator in self.separators)


def _unacked(keys: RedisKeys) -> tuple[str, str, bool]:
    return keys.unacked, keys.unacked_index, keys.acknowledges
