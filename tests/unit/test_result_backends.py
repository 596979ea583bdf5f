"""The arguments that bound each database driver."""

from __future__ import annotations

import pytest

from celery_vitals.result_backends.database import driver_bounds


@pytest.mark.parametrize(
    ("driver", "names"),
    [
        ("psycopg", {"connect_timeout", "tcp_user_timeout"}),
        ("psycopg2", {"connect_timeout", "tcp_user_timeout"}),
        ("pg8000", {"timeout"}),
        ("pymysql", {"connect_timeout", "read_timeout", "write_timeout"}),
        ("mysqldb", {"connect_timeout", "read_timeout", "write_timeout"}),
        ("mysqlconnector", {"connection_timeout"}),
        ("pysqlite", {"timeout"}),
        ("pyodbc", set()),
    ],
)
def test_a_driver_gets_only_arguments_that_it_knows(driver: str, names: set[str]) -> None:
    bounds = driver_bounds(driver, 5.0)
    assert {name for name in bounds if not name.startswith("keepalives_")} == names


def test_postgresql_gets_no_startup_parameters() -> None:
    assert "options" not in driver_bounds("psycopg", 5.0)
