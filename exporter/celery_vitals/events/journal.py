"""The journal of `--state.file`: all that has changed the state since the last snapshot.

The event thread appends each batch of messages before it processes them.  What a process has
written survives its end, also by SIGKILL; `sync` makes it survive the end of the host.  A snapshot
starts a new segment; those before it are then removed.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Union

import msgspec

from celery_vitals.events.state_file import (
    FrameReader,
    RejectedState,
    StateIdentity,
    frame,
    open_new,
    start_of,
)


class Messages(msgspec.Struct, tag="m", array_like=True, gc=False):
    """Bodies of event messages that arrived at one time."""

    at: float
    bodies: list[bytes]


class Rejected(msgspec.Struct, tag="r", array_like=True, gc=False):
    """Messages that the receiver could not open."""

    at: float
    reason: str
    count: int


class Tick(msgspec.Struct, tag="t", array_like=True, gc=False):
    """The time had passed on."""

    at: float


class Connected(msgspec.Struct, tag="c", array_like=True, gc=False):
    """A new connection to the broker; `gap`: whether events before it may be lost."""

    at: float
    gap: bool


class Released(msgspec.Struct, tag="s", array_like=True, gc=False):
    """A scrape at `at` was about to show the values of all series created until `until`."""

    at: float
    until: float


Record = Union[Messages, Rejected, Tick, Connected, Released]  # noqa: UP007 - Python 3.9
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Journal:
    """The segments of a journal, named after the snapshot.

    `append` is for one thread at a time; `sync` for any other.
    """

    def __init__(self, snapshot: Path, identity: StateIdentity) -> None:
        self._snapshot = snapshot
        self._identity = identity
        self._file: int | None = None
        self.size = 0
        """Bytes in the current segment."""
        self.segment = max(self.segments(), default=0)
        """The number of the current segment."""

    def segments(self) -> list[int]:
        """Return the numbers of the segments that exist, in their order."""
        prefix = f"{self._snapshot.name}.journal-"
        names = (one.name for one in self._snapshot.parent.glob(f"{glob.escape(prefix)}*"))
        return sorted(int(name[len(prefix) :]) for name in names if name[len(prefix) :].isdigit())

    def start_segment(self, now: float) -> int:
        """Append to a new segment from now on; return its number."""
        self.close()
        self.segment += 1
        start = start_of(self._identity.header(now, self.segment))
        with open_new(self._path(self.segment)) as file:
            file.write(start)
            file.flush()
            self._file = os.dup(file.fileno())
        self.size = len(start)
        return self.segment

    def append(self, record: Record) -> None:
        """Append a record: it survives this process once this returns.  Raises OSError."""
        if self._file is None:
            return
        data = memoryview(frame(_encode(record)))
        self.size += len(data)
        while data:
            data = data[os.write(self._file, data) :]

    def sync(self) -> None:
        """Write all records to the disk.  Raises OSError."""
        file = self._file
        if file is not None:
            os.fsync(file)

    def close(self) -> None:
        """End the current segment."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def read(self, first: int) -> Iterator[Record]:
        """Yield the records of the segments from this one on.

        Raises RejectedState if one of them is missing or damaged.  A record that is cut, at the
        end, was not processed.
        """
        numbers = [number for number in self.segments() if number >= first]
        if numbers != list(range(first, first + len(numbers))) or not numbers:
            raise RejectedState("a part of its journal is missing")
        for number in numbers:
            with self._path(number).open("rb") as file:
                reader = FrameReader(file)
                self._identity.check(reader.header)
                for content in reader:
                    try:
                        yield _decode(content)
                    except msgspec.MsgspecError:
                        raise RejectedState("its journal is damaged") from None
                if reader.cut and number != numbers[-1]:
                    raise RejectedState("its journal is cut")

    def remove_before(self, segment: int) -> None:
        """Remove the segments that a snapshot contains."""
        for number in self.segments():
            if number < segment:
                with suppress(OSError):
                    self._path(number).unlink()

    def _path(self, number: int) -> Path:
        return self._snapshot.with_name(f"{self._snapshot.name}.journal-{number}")
