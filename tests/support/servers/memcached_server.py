"""memcached, as a result backend."""

from __future__ import annotations

import os
import socket

from .base import Runner, Server
from .child import Child
from .containers import Container, docker_answers
from .finding import HOST, MissingProgramError, find_program, free_port
from .process_reaper import process_reaper


class MemcachedServer(Server):
    """One memcached."""

    def __init__(self) -> None:
        port = free_port()
        super().__init__("memcached", port, self._runner(port))

    def _runner(self, port: int) -> Runner:
        program = find_program("memcached")
        if program is not None:
            folder = process_reaper().folder("memcached")
            # memcached refuses to run as root without this option, and ignores it for other users.
            argv = [str(program), "-l", HOST, "-p", str(port), "-U", "0", "-m", "16", "-u", "root"]
            return Child("memcached", argv, os.environ, folder)
        if docker_answers():
            return Container("memcached:1", None, {11211: port})
        raise MissingProgramError("memcached", "memcached")

    @property
    def url(self) -> str:
        """For `result_backend`."""
        return f"cache+memcached://{HOST}:{self.port}/"

    def ready(self) -> bool:
        """Return whether it answers the version command."""
        with socket.create_connection((HOST, self.port), timeout=5.0) as connection:
            connection.sendall(b"version\r\n")
            return connection.recv(100).startswith(b"VERSION")

    def items(self) -> int:
        """How many keys it holds."""
        with socket.create_connection((HOST, self.port), timeout=5.0) as connection:
            connection.sendall(b"stats\r\n")
            answer = b""
            while not answer.endswith(b"END\r\n"):
                answer += connection.recv(4096)
        lines = dict(
            line.split()[1:3] for line in answer.decode().splitlines() if line.startswith("STAT ")
        )
        return int(lines["curr_items"])
