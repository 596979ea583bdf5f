"""How much there may be: caps on label values and on series, shared by all tables."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from types import TracebackType

OTHER = "_other"


class FairLock:
    """A lock that whoever waits for it gets next, even when its holder wants it again at once.

    With a plain lock, a thread that counts without a pause would keep scrapes waiting for seconds.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._next = threading.Lock()

    def __enter__(self) -> None:
        with self._next:
            self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def locked(self) -> bool:
        """Whether someone holds it."""
        return self._lock.locked()


class CardinalityLimiter:
    """What the tables of one exporter share: the lock, and how much there may be.

    `caps` says how many values a label may have, over all tables together; other labels have no cap.  `series` is the
    cap of all series.  Beyond them, values of capped labels become "_other".  Label sets that have nothing else in
    these labels are taken even then, so that totals stay right.
    """

    def __init__(self, caps: Mapping[str, int], series: int, lock: threading.Lock) -> None:
        self.lock = FairLock(lock)
        # One scrape at a time remakes text.  Never taken by one who holds `lock`.
        self.writing = threading.Lock()
        # How many series there are.
        self.series = 0
        self._most = series
        self._caps = dict(caps)
        self._rows: dict[str, Counter[str]] = {name: Counter() for name in caps}
        self._folded: Counter[str] = Counter()

    @property
    def folded(self) -> Mapping[str, int]:
        """By metric name, how many times a label set was not taken as it was.  A copy, for any thread."""
        return dict(self._folded)

    def capped(self, names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels, each value that is over its cap replaced."""
        return tuple(
            value if self._admits(name, value) else OTHER
            for name, value in zip(names, labels, strict=True)
        )

    def _admits(self, name: str, value: str) -> bool:
        rows = self._rows.get(name)
        return rows is None or value in rows or len(rows) < self._caps[name]

    def shortened(self, names: tuple[str, ...], labels: tuple[str, ...]) -> tuple[str, ...]:
        """The labels, the value of each that has a cap replaced."""
        return tuple(
            OTHER if name in self._caps else value
            for name, value in zip(names, labels, strict=True)
        )

    def has_room(self, series: int) -> bool:
        """Whether so many series can be added."""
        return self.series + series <= self._most

    def added(self, names: tuple[str, ...], labels: tuple[str, ...], series: int) -> None:
        """A row of these labels and so many series is there."""
        self.series += series
        for name, value in self._counted(names, labels):
            self._rows[name][value] += 1

    def removed(self, names: tuple[str, ...], labels: tuple[str, ...], series: int) -> None:
        """A row is gone; label values that no other row has are free."""
        self.series -= series
        for name, value in self._counted(names, labels):
            self._rows[name][value] -= 1
            if not self._rows[name][value]:
                del self._rows[name][value]

    def _counted(self, names: tuple[str, ...], labels: tuple[str, ...]) -> list[tuple[str, str]]:
        return [
            pair
            for pair in zip(names, labels, strict=True)
            if pair[0] in self._caps and pair[1] != OTHER
        ]

    def count_folded(self, name: str) -> None:
        """A label set of this metric was not taken as it was."""
        self._folded[name] += 1
