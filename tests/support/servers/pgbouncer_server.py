"""PgBouncer, a pooler in front of PostgreSQL."""

from __future__ import annotations

import os
import shutil
from typing import Any

import psycopg

from .base import Runner, Server
from .child import Child
from .finding import HOST, MissingProgramError, find_program, free_port
from .postgres_server import PASSWORD, USER, PostgresServer, become
from .process_reaper import process_reaper


class PgBouncerServer(Server):
    """A pooler whose few server connections are shared by all clients."""

    def __init__(self, postgres: PostgresServer, mode: str = "transaction") -> None:
        self._postgres = postgres
        port = free_port()
        super().__init__("pgbouncer", port, self._runner(port, mode))

    def _runner(self, port: int, mode: str) -> Runner:
        program = find_program("pgbouncer", "/usr/sbin/pgbouncer")
        if program is None:
            raise MissingProgramError("pgbouncer", "pgbouncer")
        folder = process_reaper().folder("pgbouncer")
        users, config = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        config.write_text(
            "[databases]\n"
            f"* = host={HOST} port={self._postgres.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = plain\nauth_file = {users}\n"
            f"pool_mode = {mode}\ndefault_pool_size = 1\n"
        )
        prefix = become(folder)
        if prefix:
            for path in (users, config):
                shutil.chown(path, folder.owner())
        return Child("pgbouncer", [*prefix, str(program), str(config)], os.environ, folder)

    @property
    def url(self) -> str:
        """For `result_backend`."""
        return self._postgres.url.replace(f":{self._postgres.port}/", f":{self.port}/")

    def ready(self) -> bool:
        """SELECT 1, through the pooler."""
        return self.query("SELECT 1") == [(1,)]

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Run one query through the pooler."""
        where = self.url.partition("://")[2]
        with psycopg.connect(f"postgresql://{where}", connect_timeout=5) as connection:
            return list(connection.execute(text).fetchall())
