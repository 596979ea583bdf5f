"""The settings of the app of `--app` apply: the broker in parts, the result backend without URL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from celery import Celery

from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import Broker, publish


def parts_of(url: str) -> dict[str, Any]:
    """The settings that name the broker of a URL in parts."""
    parts = urlsplit(url)
    given = {
        "transport": parts.scheme,
        "host": parts.hostname,
        "port": parts.port,
        "user": parts.username and unquote(parts.username),
        "password": parts.password and unquote(parts.password),
        "vhost": unquote(parts.path[1:]),
    }
    return {f"broker_{name}": value for name, value in given.items() if value}


def sees_broker_and_backend(local: LocalExporter) -> bool:
    scrape = local.scrape()
    assert scrape.value("celery_queue_length", queue="waiting") == 1
    up = scrape.value("celery_broker_up"), scrape.value("celery_result_backend_up")
    return up == (1, 1)


@pytest.mark.parametrize("old_names", [False, True])
def test_broker_in_parts_and_database_by_its_own_setting(
    broker: Broker, tmp_path: Path, old_names: bool
) -> None:
    publish(broker, "add", 1, 2, queue="waiting")
    with closing(sqlite3.connect(tmp_path / "results.db")) as connection:
        connection.execute("CREATE TABLE results (id INTEGER PRIMARY KEY, task_id TEXT)")
        # Another program's, by the default name: the probe would fail to read it.
        connection.execute("CREATE TABLE celery_taskmeta (task_id TEXT)")
        connection.commit()
    url = f"sqlite:///{tmp_path}/results.db"
    settings = {
        **parts_of(broker.url),
        "result_backend": "database",
        "database_url": url,
        "database_table_names": {"task": "results"},
    }
    if old_names:
        settings = {
            **{name.upper(): value for name, value in parts_of(broker.url).items()},
            "CELERY_RESULT_BACKEND": "database",
            "CELERY_RESULT_DBURI": url,
            "CELERY_RESULT_DB_TABLENAMES": {"task": "results"},
        }
    app = Celery("x", set_as_current=False)
    app.conf.update(settings)
    given = {"broker_url": None, "result_backend": None, "queues": ("waiting",)}
    with local_exporter(broker, app, **given) as local:
        assert sees_broker_and_backend(local)
        info = local.scrape().series("celery_result_backend_info")
        assert info == {(("backend", "db"),): 1}
    assert [path.name for path in tmp_path.iterdir()] == ["results.db"]
