"""The probe of a database: SQL through SQLAlchemy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery.utils.imports import symbol_by_name

from celery_vitals.brokers.target import Target
from celery_vitals.errors import ProbeError, Reason


class DatabaseProbe:
    """Runs SELECT through an engine of its own: Celery's creates and alters tables at its start."""

    def __init__(self, target: Target, io_timeout: float) -> None:
        from sqlalchemy import create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.pool import NullPool

        url = make_url(target.backend_url.partition("+")[2])
        settings = target.backend_settings
        arguments = dict((settings.get("database_engine_options") or {}).get("connect_args") or {})
        arguments |= driver_bounds(url.get_driver_name(), io_timeout)
        self._engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
        if (callback := settings.get("database_engine_callback")) is not None:
            symbol_by_name(callback)(self._engine)
        self._table = (settings.get("database_table_names") or {}).get("task", "celery_taskmeta")
        self._schema = (settings.get("database_table_schemas") or {}).get("task")
        dialect = self._engine.dialect.name
        self._file = self._engine.url.database if dialect == "sqlite" else None
        # In the transaction, not at the start of the session: poolers such as PgBouncer refuse
        # that, and give a session's settings to other clients.
        self._first = (
            f"SET LOCAL statement_timeout = {_whole_seconds(io_timeout) * 1000}"
            if dialect == "postgresql"
            else "SELECT 1"
        )

    def round_trip(self) -> None:
        """Read the table of results without its rows, where it exists."""
        import sqlalchemy as sql

        if self._file and self._file != ":memory:" and not Path(self._file).exists():
            # Connecting would create the file.
            raise ProbeError(Reason.NOT_FOUND, "the database file does not exist")
        with self._engine.connect() as connection:
            connection.execute(sql.text(self._first))
            # The table may be missing: Celery creates it with the first result.
            if sql.inspect(connection).has_table(self._table, self._schema):
                table = sql.table(self._table, schema=self._schema)
                connection.execute(sql.select(sql.column("id")).select_from(table).limit(0))

    def close(self) -> None:
        """Do nothing: each connection is closed after its use."""


def driver_bounds(driver: str, io_timeout: float) -> dict[str, Any]:
    """Return arguments that keep a driver from blocking; none for one that is not known."""
    seconds = _whole_seconds(io_timeout)
    if driver.startswith("psycopg"):
        # The keepalives end a session whose server is gone.
        keepalives = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        return {"connect_timeout": seconds, "tcp_user_timeout": seconds * 1000, **keepalives}
    if driver == "pg8000":
        return {"timeout": seconds}
    if driver in ("pymysql", "mysqldb", "mariadbconnector"):
        return dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), seconds)
    if driver == "mysqlconnector":
        return {"connection_timeout": seconds}
    return {"timeout": io_timeout} if driver == "pysqlite" else {}


def _whole_seconds(io_timeout: float) -> int:
    return max(2, round(io_timeout))
