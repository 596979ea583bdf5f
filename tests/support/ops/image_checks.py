"""The image and compose.yaml in a Docker engine: `make test-image`, not a part of `make test`.

The figures that docs/chart.md quotes are printed at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from tests.support.ops.image_engine import ROOT, Engine
from tests.support.ops.image_standins import ALERTMANAGER, PROMETHEUS, PYTHON, REDIS, provide
from tests.support.scrape import scrape_url
from tests.support.servers import HOST, free_port, wait_for

IMAGE = "celery-vitals:check"
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=256m")
MEGABYTE = 1_000_000

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, object]]:
    """What was measured, printed at the end."""
    found: dict[str, object] = {}
    yield found
    print("\n" + "\n".join(f"{name}: {value}" for name, value in found.items()))


@pytest.fixture(scope="module")
def engine(figures: dict[str, object]) -> Iterator[Engine]:
    """An engine that has the image."""
    with Engine() as one:
        figures["stand-ins"] = ", ".join(provide(one, PYTHON, REDIS)) or "none"
        one.build(IMAGE, ".")
        yield one
        one.tried("rmi", IMAGE)


@pytest.fixture
def network(engine: Engine) -> Iterator[str]:
    """A network with a Redis in it."""
    engine.docker("network", "create", "check")
    server = ("redis-server", "--protected-mode", "no")
    engine.docker("run", "-d", "--rm", "--name=redis", "--network=check", REDIS.image, *server)
    yield "check"
    engine.tried("rm", "--force", "redis")
    engine.docker("network", "rm", "check")


def test_it_is_small_and_has_nothing_to_break_in_with(
    engine: Engine, figures: dict[str, object]
) -> None:
    [about] = json.loads(engine.docker("image", "inspect", IMAGE))
    figures["size"] = f"{about['Size'] / MEGABYTE:.0f} MB"
    assert about["Size"] < 150 * MEGABYTE
    assert about["Config"]["User"] == "65532:65532"
    assert about["Config"]["Healthcheck"]["Test"] == ["CMD", "celery-vitals", "healthy"]
    assert about["Config"]["Labels"]["org.opencontainers.image.title"] == "celery-vitals"
    for program in ("sh", "bash", "apt-get", "dpkg", "pip", "gcc", "ldconfig"):
        assert (
            engine.tried(
                "run", "--rm", "--network=none", f"--entrypoint={program}", IMAGE
            ).returncode
            == 127
        ), program
    for module in ("pip", "ensurepip", "setuptools", "hatchling"):
        asked = ("--entrypoint=python", IMAGE, "-c", f"import {module}")
        assert (
            "ModuleNotFoundError" in engine.tried("run", "--rm", "--network=none", *asked).stderr
        ), module


def test_it_starts_hardened_watches_a_redis_is_healthy_and_stops(
    engine: Engine, network: str, figures: dict[str, object]
) -> None:
    port = free_port()
    started = time.monotonic()
    options = (
        *HARDENED,
        f"--network={network}",
        f"--publish={HOST}:{port}:10818",
        "--health-interval=1s",
    )
    name = engine.docker(
        "run", "-d", *options, "-e=CELERY_VITALS_BROKER_URL=redis://redis:6379/0", IMAGE
    )
    try:
        wait_for(
            lambda: answers(f"http://{HOST}:{port}/-/ready"),
            timeout=30,
            what="the exporter answering",
        )
        figures["start to ready"] = f"{time.monotonic() - started:.1f} s"
        scrape = scrape_url(f"http://{HOST}:{port}/metrics")
        assert scrape.value("celery_broker_up") == 1
        wait_for(
            lambda: state(engine, name)["Health"]["Status"] == "healthy",
            timeout=30,
            what="the health check",
        )
        asked = engine.docker(
            "exec", name, "python", "-c", "import os; print(os.getuid(), os.access('/', os.W_OK))"
        )
        assert asked == "65532 False"
        memory = scrape.value("process_resident_memory_bytes")
        figures["memory"] = f"{(memory or 0) / MEGABYTE:.0f} MB"
        started = time.monotonic()
        engine.docker("stop", "--time=10", name)
        figures["stop"] = f"{time.monotonic() - started:.1f} s"
        assert state(engine, name)["ExitCode"] == 0
        assert time.monotonic() - started < 4  # two seconds, and the engine's own time
    finally:
        engine.tried("rm", "--force", name)


def test_health_check_fails_without_server(engine: Engine) -> None:
    done = engine.tried("run", "--rm", "--network=none", *HARDENED, IMAGE, "healthy")
    assert (done.returncode, done.stderr) == (1, "celery-vitals: no response\n")


class Stack:
    """compose.yaml, brought up on free ports, with rules that do not wait."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        names = ("WEB", "EXPORTER", "PROMETHEUS", "ALERTMANAGER")
        self.urls = {name: f"http://{HOST}:{free_port()}" for name in names}
        ports = {f"{name}_PORT": url.rpartition(":")[2] for name, url in self.urls.items()}
        (folder / ".env").write_text("".join(f"{name}={port}\n" for name, port in ports.items()))
        (folder / "quick.yml").write_text(quick_rules())
        mount = f"{folder}/quick.yml:/etc/prometheus/celery-vitals.rules.yml:ro"
        (folder / "quick.yaml").write_text(
            json.dumps({"services": {"prometheus": {"volumes": [mount]}}})
        )
        files = ("-f", str(ROOT / "compose.yaml"), "-f", str(folder / "quick.yaml"))
        self._command = (
            "compose",
            "--env-file",
            str(folder / ".env"),
            "-p",
            "celery-vitals-check",
            *files,
        )

    def compose(self, *args: str) -> str:
        return self._engine.docker(*self._command, *args, timeout=600)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        answer = ask("GET", f"{self.urls['PROMETHEUS']}/api/v1/query", {"query": expression})
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def notified(self, alert: str) -> bool:
        """Whether Alertmanager has this alert."""
        alerts = ask("GET", f"{self.urls['ALERTMANAGER']}/api/v2/alerts")
        return any(one["labels"]["alertname"] == alert for one in alerts)


def quick_rules() -> str:
    """The rules of the project, with nothing to wait for."""
    rules = yaml.safe_load((ROOT / "alerts" / "celery-vitals.rules.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["for"] = "5s"
                if "keep_firing_for" in rule:
                    rule["keep_firing_for"] = "5s"
    return yaml.safe_dump(rules)


@pytest.fixture(scope="module")
def stack(
    engine: Engine, figures: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Everything but Grafana, which comes along where it can be pulled."""
    made = provide(engine, PROMETHEUS, ALERTMANAGER)
    described = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    grafana = described["grafana"]["image"]
    left_out = {"rabbitmq"} | (set() if engine.has(grafana) else {"grafana"})
    figures["stand-ins of the stack"] = ", ".join(made) or "none"
    figures["left out of the stack"] = ", ".join(sorted(left_out))
    engine.docker("tag", IMAGE, described["celery-vitals"]["image"])
    engine.build("celery-vitals-example-app", "compose/app")
    one = Stack(engine, tmp_path_factory.mktemp("compose"))
    services = set(described) - left_out
    try:
        one.compose("up", "--detach", "--no-build", *sorted(services))
        yield one
    finally:
        print(one.compose("logs", "--no-color", "--tail=15"))
        one.compose("down", "--volumes", "--timeout=3")


def test_the_whole_picture_comes_up(stack: Stack, figures: dict[str, object]) -> None:
    started = time.monotonic()
    wait_for(
        lambda: answers(f"{stack.urls['PROMETHEUS']}/-/ready"),
        timeout=120,
        what="Prometheus answering",
    )
    wait_for(
        lambda: [v for _, v in stack.query('up{job="celery-vitals"}')] == [1],
        timeout=120,
        what="a scrape",
    )
    figures["stack up and scraped"] = f"{time.monotonic() - started:.0f} s"
    wait_for(
        lambda: [v for _, v in stack.query("sum(celery_worker_up)")] == [2],
        timeout=120,
        what="two workers",
    )
    wait_for(
        lambda: any(value > 0 for _, value in stack.query("celery_task_succeeded_total")),
        timeout=120,
        what="tasks done",
    )


def test_web_application_sends_a_task_and_returns_its_state(stack: Stack) -> None:
    wait_for(lambda: answers(f"{stack.urls['WEB']}/docs"), timeout=60, what="the web application")
    task = ask("POST", f"{stack.urls['WEB']}/orders/7")["task"]

    def done() -> dict[str, Any] | None:
        answer: dict[str, Any] = ask("GET", f"{stack.urls['WEB']}/tasks/{task}")
        return answer if answer["state"] == "SUCCESS" else None

    answer = wait_for(done, timeout=60, what="the task done")
    assert answer is not None
    assert answer["result"] == "order 7 is confirmed"


def test_an_alert_fires_arrives_and_clears(stack: Stack, figures: dict[str, object]) -> None:
    alert = "CeleryBrokerDown"
    firing = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
    wait_for(lambda: stack.query("celery_broker_up == 1"), timeout=60, what="the broker seen")
    assert not stack.query(firing)
    started = time.monotonic()
    stack.compose("stop", "redis")
    wait_for(lambda: stack.query(firing), timeout=120, what="the alert firing")
    figures["broker stopped to alert"] = (
        f"{time.monotonic() - started:.0f} s (with for and keep_firing_for: 5s)"
    )
    wait_for(lambda: stack.notified(alert), timeout=60, what="the alert in Alertmanager")
    assert scrape_url(f"{stack.urls['EXPORTER']}/metrics").value("celery_broker_up") == 0
    started = time.monotonic()
    stack.compose("start", "redis")
    wait_for(lambda: not stack.query(firing), timeout=120, what="the alert cleared")
    figures["broker back to cleared"] = f"{time.monotonic() - started:.0f} s"


def state(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.docker("inspect", "--format={{json .State}}", name))
    return found


def answers(url: str) -> bool:
    try:
        return scrape_url(url).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def ask(method: str, url: str, fields: dict[str, str] | None = None) -> Any:
    with urllib3.PoolManager(timeout=10, retries=False) as pool:
        return json.loads(pool.request(method, url, fields=fields).data)
