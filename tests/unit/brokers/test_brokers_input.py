"""Invalid options of a broker or result backend are one line at the start, and exit code 2."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu.transport import TRANSPORT_ALIASES

from celery_vitals import Collector, Secret, Settings
from celery_vitals.errors import ConfigError
from celery_vitals.third_party import sqlalchemy_internals
from tests.support.command_line import one_line, serve

REDIS = "--broker-url=redis://h/0"
SQS = "--broker-url=sqs://key:s3cret@"
VISIBILITY = (
    "--broker-transport-option: visibility_timeout must be a positive number of seconds, not "
)
STEPS = "--broker-transport-option: priority_steps must be a list of numbers, not "
SEPARATOR = "--broker-transport-option: sep must be text and not empty, not "
TLS_BACKEND = "--result-backend: Celery requires ssl_cert_reqs for TLS"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--broker-url=sentinel://:s3cret@h/0"],
            "--broker-transport-option: Sentinel requires master_name=NAME",
        ),
        (
            ["--broker-url=redis://h/0;sentinel://:s3cret@h/0"],
            "--broker-transport-option: Sentinel requires master_name=NAME",
        ),
        (
            [REDIS, "--event-queue=kept"],
            "--event-queue: not supported on redis (requires RabbitMQ)",
        ),
        (
            [REDIS, "--result-backend=sentinel://:s3cret@h/0"],
            "--result-backend-transport-option: Sentinel requires master",
        ),
        ([REDIS, "--result-backend=rediss://:s3cret@h/0"], TLS_BACKEND),
        ([REDIS, "--result-backend=rediss://h/0?ssl_ca_certs=/ca.pem"], TLS_BACKEND),
        (
            [REDIS, "--result-backend=rediss://h/0?ssl_cert_reqs=perhaps"],
            "--result-backend: ssl_cert_reqs must be one of",
        ),
        (
            [REDIS, "--broker-ssl-option=ssl_cert_reqs=perhaps"],
            "--broker-ssl-option: unknown cert_reqs 'perhaps' (expected one of: none, ",
        ),
        (
            [REDIS, "--broker-ssl-option=ssl_ca_file=/ca.pem"],
            "--broker-ssl-option: unknown option 'ssl_ca_file' (expected one of: ssl_",
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
            [REDIS, "--broker-transport-option=priority_step=[0,5]"],
            "--broker-transport-option: unknown option 'priority_step' of redis (expected one of: ",
        ),
        (
            ["--broker-url=amqp://h", "--broker-transport-option=priority_steps=[0,5]"],
            "--broker-transport-option: unknown option 'priority_steps' of amqp (expected one of: ",
        ),
        (
            [SQS, "--broker-transport-option=queue_prefix=x"],
            "--broker-transport-option: unknown option 'queue_prefix' of sqs (expected one of: ",
        ),
        (
            ["--broker-url=filesystem://", "--broker-transport-option=data_folder=/x"],
            "--broker-transport-option: unknown option 'data_folder' of filesystem (expected one",
        ),
        ([REDIS, "--broker-transport-option=priority_steps=text"], f"{STEPS}'text'"),
        ([REDIS, "--broker-transport-option=priority_steps=3"], f"{STEPS}3"),
        ([REDIS, "--broker-transport-option=priority_steps=[]"], f"{STEPS}[]"),
        ([REDIS, '--broker-transport-option=priority_steps=["3"]'], f"{STEPS}['3']"),
        ([REDIS, "--broker-transport-option=priority_steps=null"], f"{STEPS}None"),
        ([REDIS, "--broker-transport-option=sep="], f"{SEPARATOR}''"),
        ([REDIS, "--broker-transport-option=sep=5"], f"{SEPARATOR}5"),
        (
            [REDIS, "--broker-transport-option=global_keyprefix=5"],
            "--broker-transport-option: global_keyprefix must be text, not 5",
        ),
        (
            [REDIS, "--broker-transport-option=queue_order_strategy=fifo"],
            "--broker-transport-option: unknown queue_order_strategy 'fifo' (expected one of: ",
        ),
        (
            [REDIS, "--broker-transport-option=health_check_interval=often"],
            "--broker-transport-option: health_check_interval must be a number, not 'often'",
        ),
        (
            [SQS, "--broker-transport-option=region=eu central"],
            "--broker-transport-option: region 'eu central' is not the name",
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
def test_an_option_that_the_kind_of_broker_rejects_is_one_line(
    args: Sequence[str], message: str
) -> None:
    shown = one_line(serve(*args))
    assert shown.startswith(message)
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    "args",
    [
        [SQS, "--broker-transport-option=region=eu-central-1"],
        [
            REDIS,
            "--broker-transport-option=priority_steps=[0, 9, 5.5, 5]",
            "--broker-transport-option=sep=:",
            "--broker-transport-option=queue_order_strategy=priority",
            "--broker-transport-option=max_retries=3",
        ],
        ["--broker-url=amqp://h", "--broker-transport-option=confirm_publish=true"],
        ["--broker-url=sqs://"],
        ["--broker-url=SQS://key:a%2Fb%2B@"],
        [REDIS, "--result-backend=rediss://h/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem"],
        [REDIS, "--result-backend=disabled"],
        ["--broker-url=sentinel://h/0;sentinel://i/0", "--broker-transport-option=master_name=m"],
    ],
)
def test_valid_options_are_accepted(args: Sequence[str]) -> None:
    assert serve(*args).exit_code == 0


@pytest.mark.parametrize(
    ("missing", "args", "message"),
    [
        (
            "boto3",
            [SQS],
            "--broker-url: sqs requires the package boto3: pip install 'celery-vitals[sqs]'",
        ),
        (
            "sqlalchemy",
            [REDIS, "--result-backend=db+sqlite:///x"],
            "--result-backend: db requires the package sqlalchemy:"
            " pip install 'celery-vitals[sqlalchemy]'",
        ),
        (
            "pymemcache",
            [REDIS, "--result-backend=cache+memcached://h"],
            "--result-backend: cache requires the package pymemcache:"
            " pip install 'celery-vitals[memcached]'",
        ),
        (
            "pymongo",
            [REDIS, "--result-backend=mongodb://u:s3cret@h/d"],
            "--result-backend: mongodb requires the package pymongo: pip install 'celery[mongodb]'",
        ),
        (
            "psycopg2",
            [REDIS, "--result-backend=db+postgresql+psycopg2://u:s3cret@h/d"],
            "--result-backend: the database driver is missing: ",
        ),
    ],
)
def test_a_missing_library_is_reported_with_how_to_install_it(
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


@pytest.mark.parametrize(
    ("transport", "problem"),
    [
        ("mongodb", "No module named 'pymongo'"),
        ("confluentkafka", "name 'KafkaException' is not defined"),
    ],
)
def test_a_missing_library_of_a_transport_is_reported(transport: str, problem: str) -> None:
    assert one_line(serve(f"--broker-url={transport}://:s3cret@h")) == (
        f"--broker-url: {transport} requires a library that is missing: {problem}"
    )


BREAKING = {
    "ImportError": "raise ImportError('libz.so.9: cannot open shared object file')",
    "AttributeError": "import os; os.no_such_name",
    "SyntaxError": "raise SyntaxError('invalid syntax')",
    "RuntimeError": "raise RuntimeError('call setup first')",
    "KeyError": "{}['HOME_OF_THE_APP']",
    "ValueError": "int('x')",
    "SystemExit": "raise SystemExit(3)",
}


@pytest.fixture(params=BREAKING)
def broken_module(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Makes the module `broken`; the name of the exception that its import raises."""
    (tmp_path / "broken.py").write_text(BREAKING[request.param] + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    name: str = request.param
    return name


def test_any_exception_of_a_transport_at_its_import_is_one_line(
    broken_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRANSPORT_ALIASES, "broken", "broken:Transport")
    shown = one_line(serve("--broker-url=broken://:s3cret@h"))
    assert shown.startswith("--broker-url: ")
    assert "broken" in shown
    assert "unknown transport" not in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize("url", ["broken.Backend://:s3cret@h", "broken.Backend+redis://:s3cret@h"])
def test_any_exception_of_a_backend_at_its_import_is_one_error(
    broken_module: str, url: str
) -> None:
    app = Celery("shop", broker="redis://h", backend=url, set_as_current=False)
    with pytest.raises(ConfigError, match=r"^--result-backend: broken\.Backend cannot be imported"):
        Collector(Settings(), app)
    Collector(Settings(collectors=frozenset({"broker", "workers"})), app)


def test_any_exception_of_a_database_driver_at_its_import_is_one_line(
    broken_module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sqlalchemy_internals, "import_driver", lambda _: importlib.import_module("broken")
    )
    url = "--result-backend=db+postgresql+psycopg2://u:s3cret@h/d"
    shown = one_line(serve(REDIS, url))
    assert shown.startswith("--result-backend: ")
    assert "s3cret" not in shown
    assert serve(REDIS, url, "--no-collector.backend").exit_code == 0


def test_a_backend_that_does_not_exist_is_one_error() -> None:
    app = Celery("shop", broker="redis://h", backend="nosuch://h", set_as_current=False)
    with pytest.raises(ConfigError, match=r"^--result-backend: nosuch cannot be imported: "):
        Collector(Settings(), app)


def test_sqlalchemy_before_2_imports_its_driver_by_another_name() -> None:
    imported: list[str] = []
    sqlalchemy_internals.import_driver(SimpleNamespace(dbapi=lambda: imported.append("dbapi")))
    assert imported == ["dbapi"]


@pytest.mark.parametrize("backend", ["disabled", "disabled://"])
def test_a_disabled_backend_is_not_probed(backend: str) -> None:
    given = Collector(Settings(broker_url=Secret("redis://h"), result_backend=Secret(backend)))
    assert "backend" not in given.names
    assert (
        "backend"
        not in Collector(
            Settings(), Celery("x", broker="redis://h", backend=backend, set_as_current=False)
        ).names
    )


@pytest.mark.parametrize("backend", ["django-db", "django-cache"])
def test_a_django_backend_is_a_blind_spot_and_not_down(backend: str) -> None:
    collector = Collector(
        Settings(), Celery("shop", broker="redis://h", backend=backend, set_as_current=False)
    )
    assert "backend" not in collector.names
    (blind_spot,) = (one for one in collector.status().blind_spots if one.subject == "backend")
    assert (backend in blind_spot.reason, blind_spot.setting) == (True, "--result-backend")
