"""The command `check` with real brokers, workers and exporters."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.exporter import Exporter
from tests.support.servers import Broker, Worker, project_environment, publish, wait_for


def check(broker: Broker, *arguments: str, command: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run the command in a process of its own; return exit code, output and errors."""
    program = command or (sys.executable, "-m", "celery_vitals")
    done = subprocess.run(
        [*program, "check", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=project_environment(broker),
    )
    return done.returncode, done.stdout, done.stderr


def watched(broker: Broker, *arguments: str) -> tuple[int, str, str]:
    return check(broker, "--broker-url", broker.url, *arguments)


def test_verdict_follows_the_cluster(broker: Broker) -> None:
    code, text, _ = watched(broker)
    assert code == 2
    assert "workers_missing" in text
    with Worker(broker, "prefork", "first", queues=("celery",)):
        wait_for(lambda: watched(broker)[0] == 0)
        code, text, errors = watched(broker, "--verbose")
        assert (code, errors) == (0, "")
        assert text.startswith("healthy: 0 findings\n")
        assert "first@test" in text
        code, text, _ = watched(broker, "--min-workers", "2")
        assert code == 2
        assert "workers_missing" in text
        publish(broker, "noop", queue="unserved", count=3)
        code, text, _ = watched(broker, "--queue", "unserved", "--json")
        assert code == 2
        (found,) = json.loads(text)["findings"]
        assert (found["code"], found["subject"]) == ("queue_unserved", "unserved")
        assert "-Q unserved" in found["recommendation"]
        code, text, _ = watched(broker, "--queue", "unserved", "--nagios")
        assert (code, text[:15]) == (2, "CELERY CRITICAL")
        assert "'queue_unserved'=3;" in text


def test_verdict_of_a_running_exporter_is_the_same(redis_broker: Broker) -> None:
    with Worker(redis_broker, "prefork", "first", events=True), Exporter.of(redis_broker) as one:
        wait_for(lambda: check(redis_broker, "--url", one.address)[0] == 0)
        code, text, errors = check(redis_broker, "--url", one.address, "--verbose")
        assert (code, errors) == (0, "")
        assert "first@test" in text


def test_command_of_celery_uses_its_app(redis_broker: Broker) -> None:
    celery = (sys.executable, "-m", "celery", "-A", "project.app:app", "vitals")
    with Worker(redis_broker, "prefork", "first"):
        wait_for(lambda: check(redis_broker, command=celery)[0] == 0)


def test_broker_that_is_down_is_unhealthy_in_time(own_broker: Broker) -> None:
    own_broker.server.stop()
    code, text, errors = watched(own_broker, "--timeout", "2")
    assert (code, errors) == (2, "")
    assert "broker_down" in text
    assert "Traceback" not in text


def test_password_is_never_shown(redis_broker: Broker) -> None:
    for arguments in (
        ["--broker-url", "redis://:s3cret-word@127.0.0.1:1/0"],
        ["--broker-url", "redis://:s3cret-word@127.0.0.1:1/0", "--json"],
        ["--url", "http://user:s3cret-word@127.0.0.1:1"],
    ):
        _, text, errors = check(redis_broker, *arguments)
        assert "s3cret-word" not in text + errors
