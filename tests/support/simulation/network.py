"""The way of the events from the workers to the exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tests.support.simulation.loop import Loop


@dataclass
class Faults:
    """What the network does to events; by default nothing but a delay."""

    duplicated: float = 0.0
    """Share of the messages that arrive twice, within a second."""
    reordered: float = 0.0
    """Share of the messages that arrive up to a second late, after those behind them."""
    dropped: float = 0.0
    """Share of the messages that are dropped without a sign."""
    gap_every: float = 0.0
    """Interval of the gaps in the stream; 0 for none."""
    gap: float = 60.0
    """Length of a gap in seconds, after which the exporter is connected again."""


class Network:
    """Delivers messages in the order of each sender, some milliseconds late."""

    def __init__(
        self,
        loop: Loop,
        rng: Random,
        faults: Faults,
        feed: Callable[[bytes], None],
        connected: Callable[[], None],
    ) -> None:
        self._loop, self._rng, self.faults = loop, rng, faults
        self._feed, self._connected = feed, connected
        self._last: dict[object, float] = {}
        self._cut_until = 0.0
        self.dropped = 0
        if faults.gap_every:
            loop.every(faults.gap_every, self._cut)

    def publish(self, sender: object, body: bytes) -> None:
        """Send one message."""
        loop, rng, faults = self._loop, self._rng, self.faults
        delay = 0.001 + 0.02 * rng.random() ** 4
        if faults.dropped and rng.random() < faults.dropped:
            self.dropped += 1
            return
        if faults.reordered and rng.random() < faults.reordered:
            loop.after(rng.random(), lambda: self._deliver(body))
        else:
            arrival = max(loop.now + delay, self._last.get(sender, 0.0))
            self._last[sender] = arrival
            loop.at(arrival, lambda: self._deliver(body))
        if faults.duplicated and rng.random() < faults.duplicated:
            loop.after(rng.random(), lambda: self._deliver(body))

    def _deliver(self, body: bytes) -> None:
        if self._loop.now < self._cut_until:
            self.dropped += 1
        else:
            self._feed(body)

    def _cut(self) -> None:
        self._cut_until = self._loop.now + self.faults.gap
        self._loop.at(self._cut_until, self._connected)
