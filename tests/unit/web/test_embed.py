"""`asgi_app` and `wsgi_app`: options, errors, lifespan, WSGI."""

from __future__ import annotations

import asyncio
import gc
import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import bcrypt
import pytest
from celery import Celery
from starlette.applications import Starlette
from starlette.routing import Mount

from celery_vitals import ConfigError, asgi_app, wsgi_app
from celery_vitals.exporter import Collector
from celery_vitals.settings import Settings
from celery_vitals.web.embed import AsgiApp
from celery_vitals.web.wsgi import WsgiApp
from tests.support.web_fakes import FakeCollector
from tests.unit.web.test_paths import get_asgi

MEMORY = {"broker_url": "memory://"}
APPS = pytest.mark.parametrize("create", [asgi_app, wsgi_app])


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER_URL", "APP", "TIMEOUT", "CONFIG_FILE"):
        monkeypatch.delenv(f"CELERY_VITALS_{name}", raising=False)


def collector_of(app: Any) -> Collector:
    return cast(Collector, app._collector)


@APPS
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"brokerurl": "memory://"}, "unknown option 'brokerurl' (did you mean 'broker_url'?)"),
        ({"zzz": 1}, "unknown option 'zzz' (see docs/options.md)"),
        ({"timeout": "x"}, "--timeout: must be a number of seconds from 0.1 to 300, not 'x'"),
        ({"collectors": {"cpu"}}, "--collector: unknown collector 'cpu' (expected one of: broker,"),
        ({"web_listen_address": ":80"}, "web_listen_address has no effect (the application"),
        ({"log_level": "debug"}, "log_level has no effect (the application decides it)"),
        ({"config_file": "/nowhere.yml"}, "--config.file: cannot read /nowhere.yml"),
        ({"queues": 3}, "--queue: must be a list, not int"),
        ({"queue_limits": "x"}, "--queue-limit: must be a mapping, not str"),
        ({"collectors": True}, "--collector: must be a list, not bool"),
        ({"collectors": "cpu"}, "--collector: unknown collector 'cpu' (expected one of: broker,"),
        ({"collectors": ["broker", 1]}, "--collector: unknown collector 1 (expected one of: bro"),
        ({"app": 5}, "app must be a Celery app or its name, not int"),
        ({"app": "nowhere:app"}, "--app: cannot import nowhere:app: ModuleNotFoundError"),
        ({"broker_url": "redis://u:pass@h:port"}, "--broker-url: invalid host or port"),
        ({"broker_url": None}, "no broker: set --broker-url, or --app"),
    ],
)
def test_wrong_option_is_one_clear_error(create: Any, options: Any, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create(**{**MEMORY, **options})
    text = str(caught.value)
    assert error in text
    assert "\n" not in text
    assert "pass@" not in text


@APPS
def test_wrong_variable_is_named_unless_a_keyword_replaces_it(
    create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_VITALS_TIMEOUT", "soon")
    with pytest.raises(ConfigError, match=r"^CELERY_VITALS_TIMEOUT: must be a number"):
        create(**MEMORY)
    create(**MEMORY, timeout=2)


@APPS
def test_keywords_variables_file_and_app_in_this_order(
    create: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "vitals.yml"
    file.write_text("timeout: 4\nmin-interval: 4\nworker-timeout: 4\nqueue: [from-file]\n")
    monkeypatch.setenv("CELERY_VITALS_TIMEOUT", "3")
    monkeypatch.setenv("CELERY_VITALS_MIN_INTERVAL", "3")
    monkeypatch.setenv("CELERY_VITALS_APP", "nowhere:app")  # replaced by the app
    celery = Celery(broker="memory://from-app")
    app = create(celery, timeout=2, config_file=str(file), collectors={"broker"})
    settings = collector_of(app)._settings
    assert (settings.timeout, settings.min_interval, settings.worker_timeout) == (2, 3, 4)
    assert settings.queues == ("from-file",)
    assert collector_of(app).names == ("broker",)
    assert collector_of(app).status().broker.startswith("memory://from-app")


def test_secret_of_a_file_is_replaced_by_a_keyword(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("memory://from-file")
    monkeypatch.setenv("CELERY_VITALS_BROKER_URL_FILE", str(tmp_path / "url"))
    assert collector_of(asgi_app()).status().broker.startswith("memory://from-file")
    assert not collector_of(asgi_app(**MEMORY)).status().broker.startswith("memory://from-file")


def test_users_are_required_only_by_a_web_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    file.write_text(f"basic_auth_users: {{alice: {hashed}}}\n")
    assert asyncio.run(get_asgi(asgi_app(**MEMORY), "/-/ready"))[0] == 200
    protected = asgi_app(**MEMORY, web_config_file=file)
    assert asyncio.run(get_asgi(protected, "/-/ready"))[0] == 401
    with pytest.raises(ConfigError, match=r"^--web.config.file: not supported by wsgi_app"):
        wsgi_app(**MEMORY, web_config_file=file)


def test_tls_of_a_web_configuration_file_is_refused(tls_file: Path) -> None:
    with pytest.raises(ConfigError, match="tls_server_config has no effect in asgi_app"):
        asgi_app(**MEMORY, web_config_file=tls_file)


@pytest.fixture
def tls_file(tmp_path: Path) -> Path:
    trustme = pytest.importorskip("trustme")
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "all.pem"))
    file = tmp_path / "web.yml"
    file.write_text("tls_server_config: {cert_file: all.pem, key_file: all.pem}\n")
    return file


def test_lifespan_starts_and_closes_the_collector_each_time() -> None:
    opened: list[FakeCollector] = []

    class Starting(FakeCollector):
        started_by_host = False

        def start(self) -> None:
            self.started_by_host = True

    def create() -> Collector:
        opened.append(Starting())
        return cast(Collector, opened[-1])

    vitals = AsgiApp(cast(Any, create), Settings(), None)
    host = Starlette(routes=[Mount("/vitals", vitals)], lifespan=vitals.lifespan)

    async def live() -> list[int]:
        async with host.router.lifespan_context(host):
            during = await get_asgi(host, "/vitals/metrics")
        after = await get_asgi(host, "/vitals/metrics")
        return [during[0], after[0]]

    assert [asyncio.run(live()) for _ in range(2)] == [[200, 503]] * 2
    assert [cast(Any, one).started_by_host for one in opened] == [True, True]
    assert [len(one.closed) for one in opened] == [1, 1]


@APPS
def test_app_without_a_lifespan_closes_the_collector_when_it_is_gone(
    create: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Collector] = []
    monkeypatch.setattr(Collector, "close", lambda self, _: closed.append(self))
    app = create(**MEMORY)
    collector = collector_of(app)
    del app
    gc.collect()
    assert closed.count(collector) == 1


def test_import_of_the_package_is_cheap() -> None:
    code = (
        "import sys, celery_vitals; print(celery_vitals.__all__ and sorted({'celery', 'starlette',"
        " 'prometheus_client', 'kombu', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_client_is_known_by_its_address() -> None:
    """Servers of applications close an idle connection after a few seconds."""
    fake = FakeCollector()
    vitals = AsgiApp(cast(Any, lambda: fake), Settings(), None)
    wsgi = WsgiApp(cast(Collector, fake), Settings())
    for port in range(3):
        client = ("192.0.2.1", 40000 + port)
        header = {"x-prometheus-scrape-timeout-seconds": "3"}
        assert asyncio.run(get_asgi(vitals, "/metrics", client, **header))[0] == 200
        Answer(wsgi, "/metrics", REMOTE_ADDR=client[0], REMOTE_PORT=str(client[1]), **TIMEOUT)
    assert len(fake.births._scrapers) == 1


# WSGI

TIMEOUT = {"HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": "3"}


class Answer:
    def __init__(self, app: WsgiApp, path: str, method: str = "GET", **environ: str) -> None:
        query = environ.pop("QUERY_STRING", "")
        given: dict[str, Any] = {
            "SCRIPT_NAME": "",
            **environ,
            "PATH_INFO": path,
            "REQUEST_METHOD": method,
            "QUERY_STRING": query,
        }
        setup_testing_defaults(given)
        found: list[Any] = []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            found[:] = [status, headers]

        parts = validator(app)(given, start_response)  # checks PEP 3333
        self.body = b"".join(parts)
        cast(Any, parts).close()
        self.status: str = found[0]
        self.headers = {name.lower(): value for name, value in found[1]}


@pytest.fixture
def fake() -> FakeCollector:
    return FakeCollector()


@pytest.fixture
def wsgi(fake: FakeCollector) -> WsgiApp:
    return WsgiApp(cast(Collector, fake), Settings(web_max_requests=1))


def test_wsgi_metrics(wsgi: WsgiApp, fake: FakeCollector) -> None:
    answer = Answer(
        wsgi, "/metrics", **TIMEOUT, HTTP_ACCEPT_ENCODING="gzip",
        QUERY_STRING="collect[]=queues",
    )  # fmt: skip
    assert answer.status == "200 OK"
    assert b"celery_broker_up 1.0" in gzip.decompress(answer.body)
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.headers["x-content-type-options"] == "nosniff"
    ((budget, names),) = fake.asked
    assert 2 < budget <= 2.5
    assert names == ("queues",)


def test_wsgi_paths(wsgi: WsgiApp, fake: FakeCollector) -> None:
    found = {
        path: Answer(wsgi, path).status[:3]
        for path in ("/", "/-/healthy", "/-/ready", "/lost", "/stats", "/x", "/metrics/", "//")
    }
    assert found == {
        "/": "200", "/-/healthy": "200", "/-/ready": "200", "/lost": "200", "/stats": "200",
        "/x": "404", "/metrics/": "404", "//": "404",
    }  # fmt: skip
    assert fake.refreshed == [15.0]
    post = Answer(wsgi, "/metrics", "POST")
    assert (post.status, post.headers["allow"]) == ("405 Method Not Allowed", "GET, HEAD")
    assert Answer(wsgi, "/metrics", QUERY_STRING="collect[]=x").status == "400 Bad Request"
    assert Answer(wsgi, "/", "HEAD").body == b""
    moved = Answer(wsgi, "", SCRIPT_NAME="/vitals")
    assert (moved.status[:3], moved.headers["location"]) == ("307", "/vitals/")


def test_wsgi_page_that_cannot_be_rendered_is_one_line(
    wsgi: WsgiApp, fake: FakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    fake.state = cast(Any, object())
    answer = Answer(wsgi, "/")
    assert (answer.status[:3], answer.body.count(b"\n")) == ("500", 1)
    assert "cannot render the status page: AttributeError" in caplog.text


def test_wsgi_scrape_over_the_limit_is_rejected(wsgi: WsgiApp, fake: FakeCollector) -> None:
    wsgi._scrapes._slots.acquire()
    busy = Answer(wsgi, "/metrics")
    assert busy.status == "503 Service Unavailable"
    assert b"--web.max-requests" in busy.body
    wsgi._scrapes._slots.release()
    assert Answer(wsgi, "/metrics").status == Answer(wsgi, "/metrics").status == "200 OK"
