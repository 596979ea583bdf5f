"""PostgreSQL, as a result backend."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .base import Runner, Server
from .child import Child
from .containers import Container, docker_answers
from .finding import HOST, MissingProgramError, find_program, free_port
from .process_reaper import process_reaper

# SQLAlchemy before 2.0 does not know psycopg 3.
DRIVER = "psycopg" if version("sqlalchemy") >= "2" else "psycopg2"
USER = "vitals"
PASSWORD = "vitals-secret"
_UNPRIVILEGED = ("postgres", "nobody")


class PostgresServer(Server):
    """One server with one database, its data in memory as far as that can be had."""

    def __init__(self) -> None:
        port = free_port()
        super().__init__("postgres", port, self._runner(port))

    def _runner(self, port: int) -> Runner:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        program = programs[-1] if programs else find_program("postgres")
        if program is not None:
            folder = process_reaper().folder("postgres")
            prefix = become(folder)
            data = _initialized(program, folder, prefix)
            options = {
                "listen_addresses": HOST,
                "unix_socket_directories": "",
                "fsync": "off",
                "max_connections": "20",
            }
            given = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
            argv = [*prefix, str(program), "-D", str(data), "-p", str(port), *given]
            return Child("postgres", argv, _environment(), folder)
        if docker_answers():
            env = {"POSTGRES_USER": USER, "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": USER}
            return Container("postgres:16", None, {5432: port}, env)
        raise MissingProgramError("postgres", "postgresql")

    @property
    def url(self) -> str:
        """For `result_backend`."""
        return self.url_of()

    def url_of(
        self,
        *,
        driver: str = DRIVER,
        user: str = USER,
        password: str = PASSWORD,
        database: str = "",
    ) -> str:
        """The same with something else in it."""
        name = database or self._database
        return f"db+postgresql+{driver}://{user}:{password}@{HOST}:{self.port}/{name}"

    @property
    def _database(self) -> str:
        return USER if isinstance(self.runner, Container) else "postgres"

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Open a connection of the test in autocommit mode, or with a transaction."""
        import psycopg

        where: dict[str, Any] = {
            "host": HOST,
            "port": self.port,
            "dbname": self._database,
            "user": USER,
            "password": PASSWORD,
        }
        with psycopg.connect(**where, autocommit=True, connect_timeout=5) as connection:
            yield connection

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """The rows of one query."""
        with self.connection() as connection:
            return list(connection.execute(text).fetchall())

    def execute(self, text: str) -> None:
        """Do one thing."""
        with self.connection() as connection:
            connection.execute(text)

    def ready(self) -> bool:
        """SELECT 1."""
        return self.query("SELECT 1") == [(1,)]


def become(folder: Path) -> list[str]:
    """Return the command prefix that changes the user: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    known = {one.pw_name for one in pwd.getpwall()}
    user = next(name for name in _UNPRIVILEGED if name in known)
    shutil.chown(folder, user)
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--clear-groups"]


def _initialized(program: Path, folder: Path, prefix: list[str]) -> Path:
    """A new folder of data."""
    secret = folder / "password"
    secret.write_text(PASSWORD)
    if prefix:
        secret.chmod(0o644)
    data = folder / "data"
    options = [
        "-U",
        USER,
        "--encoding=UTF8",
        "--locale=C",
        "--auth=scram-sha-256",
        f"--pwfile={secret}",
        "--no-sync",
        "-D",
        str(data),
    ]
    argv = [*prefix, str(program.with_name("initdb")), *options]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=folder,
        check=False,
        timeout=60,
    )
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}\n{done.stderr}")
    return data


def _environment() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C"}
