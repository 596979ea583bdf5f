"""What cannot work with a broker or a result backend is one line at the start, and exit code 2."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from celery import Celery

from celery_vitals import Collector, Secret, Settings
from tests.support.command_line import one_line, serve

REDIS = "--broker-url=redis://h/0"
SQS = "--broker-url=sqs://key:s3cret@"
VISIBILITY = "--broker-transport-option: visibility_timeout must be a number of seconds, not "
TLS_BACKEND = "--result-backend: over TLS Celery wants to be told whether to verify the certificate"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--broker-url=sentinel://:s3cret@h/0"],
            "--broker-transport-option: Sentinel needs master_name=NAME",
        ),
        (
            [REDIS, "--event-queue=kept"],
            "--event-queue: redis keeps no events for anybody who is away; RabbitMQ does",
        ),
        (
            [REDIS, "--result-backend=sentinel://:s3cret@h/0"],
            "--result-backend-transport-option: Sentinel needs master",
        ),
        ([REDIS, "--result-backend=rediss://:s3cret@h/0"], TLS_BACKEND),
        ([REDIS, "--result-backend=rediss://h/0?ssl_ca_certs=/ca.pem"], TLS_BACKEND),
        (
            [REDIS, "--result-backend=rediss://h/0?ssl_cert_reqs=perhaps"],
            "--result-backend: has an ssl_cert_reqs that",
        ),
        (
            [REDIS, "--broker-ssl-option=ssl_cert_reqs=perhaps"],
            "--broker-ssl-option: cert_reqs must be one of",
        ),
        (
            [REDIS, "--broker-ssl-option=ssl_ca_file=/ca.pem"],
            "--broker-ssl-option: there is no ssl_ca_file; there are",
        ),
        (
            ["--broker-url=rediss+cluster://:s3cret@h/0"],
            "--broker-url: Redis Cluster is not supported by Celery's",
        ),
        (
            ["--broker-url=redis+cluster://:s3cret@h/0"],
            "--broker-url: Redis Cluster is not supported by Celery's",
        ),
        (
            ["--broker-url=rediscluster://:s3cret@h/0"],
            "--broker-url: Redis Cluster is not supported by Celery's",
        ),
        ([REDIS, "--broker-transport-option=visibility_timeout=12h"], VISIBILITY),
        ([REDIS, "--broker-transport-option=visibility_timeout=NaN"], VISIBILITY),
        ([REDIS, "--broker-transport-option=visibility_timeout=[1]"], VISIBILITY),
        (
            [SQS, "--broker-transport-option=region=eu central"],
            "--broker-transport-option: region 'eu central' is no",
        ),
        (
            [SQS, "--broker-transport-option=predefined_queues=[1]"],
            "--broker-transport-option: predefined_queues must",
        ),
        (
            [SQS, '--broker-transport-option=predefined_queues={"a": {}}'],
            "--broker-transport-option: predefined_queues",
        ),
    ],
)
def test_what_cannot_work(args: Sequence[str], message: str) -> None:
    shown = one_line(serve(*args))
    assert shown.startswith(message)
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    "args",
    [
        [SQS, "--broker-transport-option=region=eu-central-1"],
        ["--broker-url=sqs://"],
        ["--broker-url=SQS://key:a%2Fb%2B@"],
        [REDIS, "--result-backend=rediss://h/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem"],
        [REDIS, "--result-backend=disabled"],
        ["--broker-url=sentinel://h/0;sentinel://i/0", "--broker-transport-option=master_name=m"],
    ],
)
def test_what_can(args: Sequence[str]) -> None:
    assert serve(*args).exit_code == 0


@pytest.mark.parametrize(
    ("missing", "args", "message"),
    [
        (
            "boto3",
            [SQS],
            "--broker-url: sqs needs the package boto3: pip install 'celery-vitals[sqs]'",
        ),
        (
            "sqlalchemy",
            [REDIS, "--result-backend=db+sqlite:///x"],
            "--result-backend: db needs the package sqlalchemy: pip install 'celery-vitals[sqlalchemy]'",
        ),
        (
            "pymemcache",
            [REDIS, "--result-backend=cache+memcached://h"],
            "--result-backend: cache needs the package pymemcache: pip install 'celery-vitals[memcached]'",
        ),
        (
            "pymongo",
            [REDIS, "--result-backend=mongodb://u:s3cret@h/d"],
            "--result-backend: mongodb needs the package pymongo: pip install 'celery[mongodb]'",
        ),
        (
            "psycopg",
            [REDIS, "--result-backend=db+postgresql+psycopg://u:s3cret@h/d"],
            "--result-backend: the database's driver is missing: ",
        ),
    ],
)
def test_a_library_that_is_missing(
    missing: str, args: Sequence[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name.partition(".")[0] == missing else found(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    monkeypatch.setitem(sys.modules, missing, None)
    shown = one_line(serve(*args))
    assert shown.startswith(message)
    assert "s3cret" not in shown


def test_a_transport_whose_library_is_missing() -> None:
    assert one_line(serve("--broker-url=mongodb://:s3cret@h")) == (
        "--broker-url: mongodb needs a library that is missing: No module named 'pymongo'"
    )


@pytest.mark.parametrize("backend", ["disabled", "disabled://"])
def test_a_backend_that_is_disabled_is_none(backend: str) -> None:
    given = Collector(Settings(broker_url=Secret("redis://h"), result_backend=Secret(backend)))
    assert "backend" not in given.names
    assert (
        "backend"
        not in Collector(
            Settings(), Celery("x", broker="redis://h", backend=backend, set_as_current=False)
        ).names
    )


@pytest.mark.parametrize("backend", ["django-db", "django-cache"])
def test_a_backend_that_only_django_can_use_is_not_said_to_be_down(backend: str) -> None:
    collector = Collector(
        Settings(), Celery("shop", broker="redis://h", backend=backend, set_as_current=False)
    )
    assert "backend" not in collector.names
    (note,) = (note for note in collector.report().blind_spots if note.subject == "backend")
    assert (backend in note.text, note.setting) == (True, "--result-backend")
