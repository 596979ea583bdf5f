"""The files of `--state.file`: their format, how they are written, and when they are rejected.

A file is a mark, then frames: the length, the checksum and the content of each, in MessagePack.
The first frame of every file is its `Header`.  A snapshot ends in an empty frame, so that one that
is cut is recognized.  No file contains a password or the address of a broker.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import BinaryIO
from urllib.parse import urlsplit

import msgspec

from celery_vitals._version import __version__

FORMAT = 1
_MARK = b"celery-vitals state\n"
_PREFIX = Struct(">II")
_END = b""
MAX_FRAME = 256 * 1024 * 1024
"""Bytes of one frame; a longer one is damaged."""
MAX_SIZE = 4 * 1024 * 1024 * 1024
"""Bytes of one file that are read, and of one that is written."""


class RejectedState(Exception):
    """A state that is not used, and why."""


class Header(msgspec.Struct):
    """The first frame of a file."""

    format: int
    version: str = ""
    """Of the exporter that has written it."""
    cluster: str = ""
    labels: tuple[str, ...] = ()
    """The additional labels of task series."""
    written_at: float = 0.0
    segment: int = 0
    """Of a snapshot: the first segment of the journal that it does not contain."""


class StateIdentity(msgspec.Struct, frozen=True):
    """Whose state it is: of another one it is not used."""

    cluster: str
    labels: tuple[str, ...]

    @classmethod
    def of(
        cls, broker_urls: Iterable[str], names: Iterable[str], labels: tuple[str, ...]
    ) -> StateIdentity:
        """Return the identity of a cluster: by the addresses of its broker, without users and
        passwords, and the names and prefixes that separate it from others there."""
        addresses = []
        for url in broker_urls:
            parts = urlsplit(url)
            addresses.append(f"{parts.netloc.rpartition('@')[2]}{parts.path}")
        text = "\n".join([*sorted(addresses), *names])
        return cls(hashlib.blake2b(text.encode(), digest_size=16).hexdigest(), labels)

    def header(self, written_at: float, segment: int) -> Header:
        """Return the header of a file of this state."""
        return Header(FORMAT, __version__, self.cluster, self.labels, written_at, segment)

    def check(self, header: Header) -> None:
        """Raise RejectedState if a file is of another state, or of a newer version."""
        if header.format != FORMAT:
            raise RejectedState(
                f"its format is {header.format}, written by version"
                f" {header.version or 'unknown'}; this version reads {FORMAT}"
            )
        if header.cluster != self.cluster:
            raise RejectedState("it is the state of another cluster")
        if header.labels != self.labels:
            raise RejectedState("its task series have other labels")


def frame(content: bytes) -> bytes:
    """Encode a frame."""
    return _PREFIX.pack(len(content), zlib.crc32(content)) + content


def start_of(header: Header) -> bytes:
    """Encode what precedes the other frames of a file."""
    return _MARK + frame(msgspec.msgpack.encode(header))


class FrameReader:
    """Reads the frames of a file.  Raises RejectedState for damage, and OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.cut = False
        """Whether the file ends within a frame."""
        if os.fstat(file.fileno()).st_size > MAX_SIZE:
            raise RejectedState("it is too large")
        if file.read(len(_MARK)) != _MARK:
            raise RejectedState("it is not a state file")
        first = next(iter(self), None)
        if first is None:
            raise RejectedState("it is cut")
        try:
            self.header = msgspec.msgpack.decode(first, type=Header)
        except msgspec.MsgspecError:
            raise RejectedState("its header is damaged") from None

    def __iter__(self) -> Iterator[bytes]:
        while prefix := self._file.read(_PREFIX.size):
            if len(prefix) < _PREFIX.size:
                self.cut = True
                return
            length, checksum = _PREFIX.unpack(prefix)
            if length > MAX_FRAME:
                raise RejectedState("it is damaged")
            content = self._file.read(length)
            if len(content) < length:
                self.cut = True
                return
            if zlib.crc32(content) != checksum:
                raise RejectedState("it is damaged")
            yield content


def read_snapshot(path: Path, identity: StateIdentity) -> tuple[Header, list[bytes]]:
    """Return the header and the frames of a complete snapshot.

    Raises RejectedState, and OSError: FileNotFoundError where there is none.
    """
    with path.open("rb") as file:
        reader = FrameReader(file)
        identity.check(reader.header)
        frames = list(reader)
    if not frames or frames[-1] != _END:
        raise RejectedState("it is cut")
    return reader.header, frames[:-1]


class SnapshotWriter:
    """Writes a snapshot next to the old one, which it then replaces.  A context manager."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._temporary = path.with_name(f"{path.name}.tmp")
        self._file = open_new(self._temporary)
        self._size = 0
        self._complete = False
        self._write(start_of(header))

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        if not self._complete:
            with suppress(OSError):
                self._temporary.unlink()

    def add(self, content: bytes) -> None:
        """Write a frame."""
        self._write(frame(content))

    def replace_old(self) -> None:
        """Complete the snapshot, and let it take the place of the old one."""
        self._write(frame(_END))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temporary.replace(self._path)
        self._complete = True
        sync_folder(self._path.parent)

    def _write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_SIZE:
            raise OSError(f"the state is larger than {MAX_SIZE} bytes")
        self._file.write(data)


def open_new(path: Path) -> BinaryIO:
    """Create a file that only its owner can read, in place of any other."""
    with suppress(FileNotFoundError):
        path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def locked(path: Path) -> BinaryIO | None:
    """Return a handle that keeps other processes from using these files; None if one does."""
    handle = os.fdopen(
        os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600), "rb+"
    )
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def sync_folder(folder: Path) -> None:
    """Make the names of new files permanent, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
