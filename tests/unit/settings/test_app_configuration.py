"""The configuration of an app means what it means to Celery, in every spelling."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from celery_vitals import Secret, Settings
from celery_vitals.brokers.target import Target, target_of
from celery_vitals.errors import ConfigError
from celery_vitals.result_backends.checks import check_backend
from celery_vitals.result_backends.probes import open_backend
from celery_vitals.settings.app_configuration import broker_urls, settings_of
from celery_vitals.settings.celery_app import secrets_of
from celery_vitals.settings.parsers import task_label


def app_of(**settings: Any) -> Celery:
    app = Celery("x", set_as_current=False)
    app.conf.update(settings)
    return app


def app_in_namespace(**settings: Any) -> Celery:
    app = Celery("x", set_as_current=False)
    app.config_from_object(SimpleNamespace(**settings), namespace="CELERY")
    return app


def target(**settings: Any) -> Target:
    return target_of(Settings(), app_of(broker_url="redis://h", **settings))


@pytest.mark.parametrize(
    "routes",
    [
        {"a.*": "q"},
        {"a.*": {"queue": "q"}},
        [{"a.*": {"queue": "q"}}],
        ([("a.*", {"queue": "q"}), ("b", {"exchange": "x"})],),
    ],
)
def test_queues_of_static_routes_are_monitored(routes: Any) -> None:
    assert target(task_routes=routes).queues == {"celery", "q"}


BROKERS: list[dict[str, Any]] = [
    {"broker_host": "h"},
    {"broker_host": "h", "broker_port": 5673, "broker_user": "u", "broker_password": "p/:@ w"},
    {"broker_host": "h", "broker_vhost": "v", "broker_port": "5673"},
    {"broker_host": "h", "broker_vhost": "/"},
    {"broker_host": "h", "broker_transport": "redis", "broker_vhost": 3, "broker_password": "p"},
    {"broker_transport": "redis"},
    {"broker_user": "u", "broker_password": "p"},
    {"broker_url": "redis://h", "broker_password": "p", "broker_port": 1, "broker_vhost": "2"},
    {"broker_url": "redis://u:q@h:6/5", "broker_password": "p", "broker_port": 1},
    {"broker_url": "amqp://u@h//", "broker_password": "p", "broker_user": "other"},
    {"broker_url": "amqp://h//", "broker_transport": "pyamqp"},
    {"broker_url": "amqp://h", "broker_transport": "redis"},
    {"broker_read_url": "redis://reads/1", "broker_write_url": "redis://writes/1"},
    {"broker_url": "memory://"},
    {"BROKER_HOST": "h", "BROKER_PORT": 5673, "BROKER_VHOST": "v", "CELERY_IMPORTS": ()},
]


@pytest.mark.parametrize("settings", BROKERS, ids=lambda settings: " ".join(settings))
def test_the_broker_is_the_one_that_celery_connects_to(settings: dict[str, Any]) -> None:
    app = app_of(**settings)
    (url,) = broker_urls(app.conf)
    got, expected = Connection(url), app.connection_for_read()
    assert (got.hostname or "localhost") == (expected.hostname or "localhost")
    assert (got.userid, got.password) == (expected.userid, expected.password)
    assert (str(got.port), str(got.virtual_host)) == (
        str(expected.port),
        str(expected.virtual_host),
    )
    assert got.get_transport_cls() is expected.get_transport_cls()


def test_a_namespace_precedes_the_names_of_settings() -> None:
    app = app_in_namespace(CELERY_BROKER_HOST="h", CELERY_BROKER_TRANSPORT="redis", SECRET="s")
    assert broker_urls(app.conf) == ["redis://h"]


def test_several_hosts_and_urls() -> None:
    assert broker_urls(app_of(broker_host="a;b", broker_port=7).conf) == [
        "amqp://a:7",
        "amqp://b:7",
    ]
    urls = ["redis://a", "redis://b"]
    assert broker_urls(app_of(broker_url=urls, broker_password="p").conf) == [
        "redis://:p@a",
        "redis://:p@b",
    ]


@pytest.mark.parametrize("url", ["sqla+sqlite:///x.db", "mongodb://h/db", "redis://:a#b@h"])
def test_urls_with_a_syntax_of_their_own_are_left_alone(url: str) -> None:
    assert broker_urls(app_of(broker_url=url, broker_user="u", broker_vhost="v").conf) == [url]


def test_an_app_without_broker_has_the_default_of_celery() -> None:
    assert broker_urls(app_of().conf) == []
    assert target_of(Settings(), app_of()).broker_urls == ("amqp://guest:guest@localhost:5672//",)


def test_a_password_may_be_a_function_and_is_a_secret() -> None:
    app = app_of(broker_host="h", broker_user="u", broker_password=lambda: "p w")
    assert broker_urls(app.conf) == ["amqp://u:p%20w@h"]
    assert Secret("amqp://u:p%20w@h") in set(secrets_of(app))


@pytest.mark.parametrize(
    "app",
    [
        app_of(azureblockblob_container_name="results", dynamodb_endpoint_url="http://d"),
        app_in_namespace(
            CELERY_AZUREBLOCKBLOB_CONTAINER_NAME="results", CELERY_DYNAMODB_ENDPOINT_URL="http://d"
        ),
        app_of(
            AZUREBLOCKBLOB_CONTAINER_NAME="results",
            BROKER_URL="redis://h",
            dynamodb_endpoint_url="http://d",
        ),
    ],
    ids=["new", "namespace", "old"],
)
def test_every_setting_that_differs_from_the_default_is_known_by_its_new_name(app: Celery) -> None:
    settings = settings_of(app.conf)
    assert settings["azureblockblob_container_name"] == "results"
    assert settings["dynamodb_endpoint_url"] == "http://d"
    assert "redis_socket_timeout" not in settings


@pytest.mark.parametrize(
    "settings",
    [
        {"gcs_bucket": "b", "gcs_project": "p"},
        {"elasticsearch_timeout": 3.0},
        {"cassandra_servers": ["h"], "cassandra_keyspace": "k"},
        {"arangodb_backend_settings": {"host": "h"}},
        {"couchbase_backend_settings": {"host": "h"}},
        {"cosmosdbsql_database_name": "d"},
        {"redis_backend_use_ssl": {"ssl_cert_reqs": "required"}},
        {"setting_of_a_backend_of_its_own": object()},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_result_backend_gets_the_settings_of_the_app(settings: dict[str, Any]) -> None:
    found = target(result_backend="redis://h", **settings).backend_settings
    assert {name: found[name] for name in settings} == settings


def test_a_backend_without_url_is_made_of_its_settings() -> None:
    settings = target(result_backend="redis", redis_host="results", redis_port=7, redis_db=3)
    store: Any = open_backend(settings, 1.0)
    options = store._store.connparams
    assert (options["host"], options["port"], options["db"]) == ("results", 7, 3)


@pytest.mark.parametrize("name", ["database", "db"])
@pytest.mark.parametrize(
    "settings",
    [{"database_url": "sqlite:///x.db"}, {"CELERY_RESULT_DBURI": "sqlite:///x.db"}],
    ids=["new", "old"],
)
def test_a_database_has_the_url_of_its_setting(name: str, settings: dict[str, Any]) -> None:
    old = "CELERY_RESULT_DBURI" in settings
    app = app_of(**{"CELERY_RESULT_BACKEND" if old else "result_backend": name}, **settings)
    found = target_of(Settings(broker_url=Secret("redis://h")), app)
    assert (found.backend_url, found.backend) == ("db+sqlite:///x.db", "db")
    check_backend(found)


@pytest.mark.parametrize("app", [None, app_of()], ids=["no app", "app"])
def test_a_database_without_url_is_one_clear_line(app: Celery | None) -> None:
    settings = Settings(broker_url=Secret("redis://h"), result_backend=Secret("database"))
    with pytest.raises(ConfigError, match="requires --app with the setting database_url"):
        check_backend(target_of(settings, app))


def raising(error: BaseException) -> Callable[[], str]:
    def password() -> str:
        raise error

    return password


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"broker_password": raising(RuntimeError("vault\nsealed"))}, "RuntimeError: vault sealed"),
        ({"broker_password": raising(SystemExit(3))}, "SystemExit: 3"),
        ({"broker_url": 5}, "the URL of the broker must be text, or a list of texts"),
        ({"broker_url": ["redis://h", None]}, "the URL of the broker must be text, or a list"),
        ({"broker_transport_options": [1]}, "broker_transport_options must be a mapping, not list"),
        (
            {"result_backend_transport_options": "x"},
            "_transport_options must be a mapping, not str",
        ),
        ({"accept_content": [["json"]]}, "unhashable type: 'list'"),
        ({"task_queues": 5}, "cannot read the configuration of x: TypeError"),
    ],
)
def test_a_setting_that_cannot_be_read_is_one_line(settings: dict[str, Any], message: str) -> None:
    app = app_of(**{"broker_url": "redis://h", **settings})
    with pytest.raises(ConfigError) as raised:
        (secrets_of(app), target_of(Settings(), app))
    assert str(raised.value).startswith("--app: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_settings_that_raise_when_they_are_read_are_one_line() -> None:
    class Lazy:
        broker_url = "redis://h"

        @property
        def task_queues(self) -> None:
            raise RuntimeError("QUEUES")

    app = Celery("x", set_as_current=False)
    app.config_from_object(Lazy())
    for read in (secrets_of, lambda app: target_of(Settings(), app)):
        with pytest.raises(ConfigError, match="cannot read the configuration of x: RuntimeError"):
            read(app)


def test_the_probe_never_unpickles_a_result() -> None:
    pickles = {"result_serializer": "pickle", "accept_content": ["pickle"]}
    found = target(result_backend="redis://h", **pickles)
    store: Any = open_backend(found, 1.0)
    assert store._store.serializer == "json"
    assert store._store.accept == {"application/json"}


def test_the_parameters_of_tasks_are_known_where_a_label_needs_them() -> None:
    app = app_of(broker_url="redis://h", include=["no_such_module"])

    def plain(customer: str, amount: int = 1, *rest: int, currency: str = "") -> None: ...

    def bound(self: Any, customer: str) -> None: ...

    app.task(name="plain")(plain)
    app.task(name="bound", bind=True, autoretry_for=(ValueError,))(bound)

    assert target_of(Settings(), app).task_parameters == {}
    found = target_of(Settings(task_label=("tenant", 0)), app).task_parameters
    assert (found["plain"], found["bound"]) == (("customer", "amount"), ("customer",))
    assert (
        target_of(Settings(broker_url=Secret("redis://h"), task_label=("t", 0))).task_parameters
        == {}
    )


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("tenant=args.0", ("tenant", 0)),
        ("tenant=args.12", ("tenant", 12)),
        ("tenant=args.customer", ("tenant", "customer")),
        ("tenant=kwargs.customer", ("tenant", "customer")),
    ],
)
def test_the_argument_of_a_label(text: str, parsed: tuple[str, str | int]) -> None:
    assert task_label(text) == parsed
    assert Settings(broker_url=Secret("redis://h"), task_label=parsed).task_label == parsed


@pytest.mark.parametrize(
    "text",
    [
        "tenant",
        "tenant=customer",
        "tenant=args.",
        "tenant=args.-1",
        "tenant=args.0.x",
        "T=args.0",
        "tenant=kwargs.0",
        "queue=args.0",
        "tenant=args.0 ",
    ],
)
def test_an_invalid_argument_of_a_label(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        task_label(text)


@pytest.mark.parametrize(
    ("settings", "serializer"),
    [
        ({}, "json"),
        ({"accept_content": None}, "json"),
        ({"accept_content": ["application/json"], "task_serializer": "pickle"}, "json"),
        ({"accept_content": ["pickle", "msgpack"], "task_serializer": "msgpack"}, "msgpack"),
        ({"accept_content": ["application/x-yaml"]}, "yaml"),
        ({"CELERY_ACCEPT_CONTENT": ["msgpack"], "CELERY_TASK_SERIALIZER": "msgpack"}, "msgpack"),
    ],
)
def test_commands_have_a_serializer_that_workers_accept(
    settings: dict[str, Any], serializer: str
) -> None:
    given = Settings(broker_url=Secret("redis://h"))
    assert target_of(given, app_of(**settings)).control_serializer == serializer
    assert target_of(given).control_serializer == "json"


def test_an_unknown_serializer_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match="no serializer of accept_content can be used: nonsense"):
        target(accept_content=["nonsense"])
