"""Settings: names of options, sources of values, valid values."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from celery_vitals.errors import ConfigError
from celery_vitals.settings import Address, Secret, Settings
from celery_vitals.settings.click_options import all_options
from celery_vitals.settings.model import COLLECTOR_NAMES
from celery_vitals.settings.options import options_of
from tests.support.command_line import BROKER, read
from tools.reference_pages import options_markdown

COLLECTORS = {name: name in ("backend", "queues") for name in COLLECTOR_NAMES}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "vitals.yaml"


# Names


def test_names_follow_from_the_flag() -> None:
    option = options_of(Settings)["web_listen_address"]
    assert (option.flag, option.key) == ("--web.listen-address", "web.listen-address")
    assert option.variable == "CELERY_VITALS_WEB_LISTEN_ADDRESS"


def test_names_are_unique() -> None:
    options = list(all_options())
    for names in (
        [one.flag for one in options],
        [one.variable for one in options],
        [one.parameter for one in options],
    ):
        assert len(names) == len(set(names))


def test_no_variable_is_one_that_kubernetes_sets() -> None:
    # For a Service called celery-vitals, in every container.
    taken = ("CELERY_VITALS_PORT", "CELERY_VITALS_SERVICE_")
    assert not [one.variable for one in all_options() if one.variable.startswith(taken)]


def test_every_help_is_one_sentence() -> None:
    for option in all_options():
        assert option.help.endswith(".")
        assert ". " not in option.help


def test_the_page_of_options_names_each_once() -> None:
    page = options_markdown()
    for option in all_options():
        assert page.count(f"| `{option.variable}` |") == 1
    assert "| `web.max-requests` | `40` |" in page


# Values


def test_defaults() -> None:
    settings = Settings()
    assert settings.broker_url is None
    assert settings.web_listen_address == (Address("", 10818),)
    names = {"broker", "backend", "workers", "queues", "tasks"}
    assert names <= settings.collectors == set(COLLECTOR_NAMES)
    assert (settings.worker_timeout, settings.worker_forget_after) == (120, 3600)
    assert (settings.timeout, settings.timeout_offset, settings.min_interval) == (5, 0.5, None)
    assert dict(settings.broker_transport_options) == {}


def test_values_are_converted() -> None:
    settings = Settings(
        broker_url="redis://localhost",  # type: ignore[arg-type]
        web_listen_address=("[::1]:0", "localhost:80"),  # type: ignore[arg-type]
        broker_transport_options={"visibility_timeout": 43200},
        queues="emails",  # type: ignore[arg-type]
        timeout=3,
    )
    assert settings.broker_url == Secret("redis://localhost")
    assert settings.web_listen_address == (Address("::1", 0), Address("localhost", 80))
    assert [str(address) for address in settings.web_listen_address] == ["[::1]:0", "localhost:80"]
    assert settings.broker_transport_options["visibility_timeout"] == 43200
    assert settings.queues == ("emails",)
    assert isinstance(settings.timeout, float)


def test_settings_are_immutable() -> None:
    settings = Settings(queues=("a",))
    assert dataclasses.replace(settings, timeout=2.0).queues == ("a",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.timeout = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"worker_timeout": 3600.0},
            "--worker-forget-after: must be greater than --worker-timeout",
        ),
        (
            {"collectors": {"queue"}},
            "--collector: unknown collector 'queue' (expected one of: broker, backend, workers, ",
        ),
        ({"web_listen_address": ()}, "--web.listen-address: must not be empty"),
        ({"web_listen_address": (":x",)}, "--web.listen-address: must be :PORT"),
        ({"timeout": 0}, "--timeout: must be a number of seconds"),
        ({"timeout": None}, "--timeout: must be a number of seconds from 0.1 to 300, not nothing"),
        ({"timeout": True}, "--timeout: must be a number of seconds"),
        ({"web_max_requests": "4x"}, "--web.max-requests: must be an integer"),
        ({"log_level": "trace"}, "--log.level: must be one of"),
        ({"app": "proj.app:"}, "--app: must be MODULE or MODULE:APP"),
        ({"queue_limits": {"q": -1}}, "--queue-limit: must be an integer"),
        ({"queue_limits": {"q": "many"}}, "--queue-limit: must be an integer"),
        ({"health_min_workers": -1}, "--health.min-workers: must be an integer from 0"),
        (
            {"health_queue_min_workers": {"q": "x"}},
            "--health.queue-min-workers: must be an integer",
        ),
        ({"health_queue_ages": {"q": 0}}, "--health.queue-age: must be a number of seconds from 1"),
        ({"health_task_intervals": {"t": "1h"}}, "--health.task-interval: must be a number of sec"),
        ({"health_severities": {"c": "bad"}}, "--health.severity: must be one of info, degraded"),
        ({"web_telemetry_path": "/health"}, "--web.telemetry-path: must not be /health or below"),
        ({"web_telemetry_path": "/health/x"}, "--web.telemetry-path: must not be /health or below"),
        ({"queues": ("a\nb",)}, "--queue: must not contain control characters"),
    ],
)
def test_invalid_values_name_the_option(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings(**values)
    assert str(raised.value).startswith(message)


def test_a_secret_file_that_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--web\.config\.file: cannot read .*: Is a directory$"):
        Settings(web_config_file=tmp_path)


# Sources of values


def test_flag_beats_environment_beats_file_beats_default(config: Path) -> None:
    config.write_text("timeout: 2\nmin-interval: 2\nworker-timeout: 2\n")
    settings = read(
        "--timeout=4",
        f"--config.file={config}",
        CELERY_VITALS_TIMEOUT="3",
        CELERY_VITALS_MIN_INTERVAL="3",
    )
    assert (settings.timeout, settings.min_interval, settings.worker_timeout) == (4, 3, 2)
    assert settings.timeout_offset == 0.5


def test_every_option_by_flag_environment_and_file(config: Path) -> None:
    given = {
        "app": "proj:app",
        "broker-url": BROKER,
        "result-backend": "rpc://",
        "broker-transport-option": '{"a": 1, "b": "text"}',
        "broker-ssl-option": '{"c": [1]}',
        "result-backend-transport-option": '{"d": {"e": null}}',
        "queue": "[q1, q2]",
        "queue-include": "[shop-*]",
        "queue-exclude": "[tmp-*]",
        "queue-limit": '{"a=b": 5, "*": 100}',
        "queue-priorities": "true",
        "rabbitmq-management-url": "http://h:15672",
        "worker-timeout": "20",
        "worker-forget-after": "30",
        "worker-drain-timeout": "40",
        "timeout": "3",
        "timeout-offset": "0.25",
        "min-interval": "0",
        **{f"collector.{name}": str(on).lower() for name, on in COLLECTORS.items()},
        "enable-events": "true",
        "event-queue": "standby",
        "state.file": str(config.with_name("state")),
        "runtime-buckets": "[1, 2.5]",
        "wait-buckets": "[3]",
        "task-runtime-buckets": '{"t.slow": [60, 600]}',
        "task-wait-buckets": '{"t.slow": [7]}',
        "task-labels": "[worker]",
        "task-label": "tenant=kwargs.customer",
        "max-task-names": "11",
        "max-queue-names": "12",
        "max-exceptions": "13",
        "max-label-values": "14",
        "max-workers": "15",
        "worker-task-counts": "false",
        "max-series": "16",
        "max-tasks": "17",
        "task-forget-after": "180",
        "series-forget-after": "190",
        "health.min-workers": "2",
        "health.queue-min-workers": '{"a": 3}',
        "health.queue-age": '{"a": 60, "*": 120}',
        "health.ignore-queue": "[spare-*]",
        "health.task-age": '{"t.slow": 60}',
        "health.task-interval": '{"t.nightly": 86400}',
        "health.severity": '{"worker_down": "info"}',
        "web.listen-address": "['[::1]:1', 'h:2']",
        "web.telemetry-path": "/m",
        "web.config.file": os.devnull,
        "web.max-requests": "7",
        "web.disable-exporter-metrics": "true",
        "web.lost": "false",
        "web.stats": "false",
        "log.level": "debug",
        "log.format": "json",
    }
    assert set(given) == {
        option.key
        for option in all_options()
        if not option.key.endswith("-file") and option.in_file
    }
    config.write_text("".join(f"{key}: {value}\n" for key, value in given.items()))
    from_file = read("--config.file", str(config))
    variables = {
        option.variable: given[option.key] for option in all_options() if option.key in given
    }
    variables |= {
        "CELERY_VITALS_QUEUE": "q1, q2",
        "CELERY_VITALS_WEB_LISTEN_ADDRESS": "[::1]:1 h:2",
    }
    variables |= {"CELERY_VITALS_RUNTIME_BUCKETS": "1,2.5", "CELERY_VITALS_WAIT_BUCKETS": "3"}
    variables |= {"CELERY_VITALS_HEALTH_IGNORE_QUEUE": "spare-*"}
    variables |= {"CELERY_VITALS_TASK_LABELS": "worker"}
    variables |= {"CELERY_VITALS_QUEUE_INCLUDE": "shop-*", "CELERY_VITALS_QUEUE_EXCLUDE": "tmp-*"}
    from_environment = read(**variables)
    flags = f"""
        -A proj:app --broker-url {BROKER} --result-backend rpc:// --queue q1 --queue q2
        --broker-transport-option a=1 --broker-transport-option b=text --broker-ssl-option c=[1]
        --result-backend-transport-option d={{"e":null}} --rabbitmq-management-url http://h:15672
        --queue-include shop-* --queue-exclude tmp-* --queue-limit a=b=5 --queue-limit *=100
        --worker-drain-timeout 40 --queue-priorities --state.file {config.with_name("state")}
        --worker-timeout 20 --worker-forget-after 30 --timeout 3
        --timeout-offset .25 --min-interval 0
        --enable-events --event-queue standby --runtime-buckets 1,2.5 --wait-buckets 3
        --task-runtime-buckets t.slow=60,600 --task-wait-buckets t.slow=7
        --task-labels worker --task-label tenant=kwargs.customer
        --max-task-names 11 --max-queue-names 12 --max-exceptions 13
        --max-label-values 14 --max-workers 15 --no-worker-task-counts
        --max-series 16 --max-tasks 17 --task-forget-after 180 --series-forget-after 190
        --health.min-workers 2 --health.queue-min-workers a=3 --health.queue-age a=60
        --health.queue-age *=120 --health.ignore-queue spare-* --health.task-age t.slow=60
        --health.task-interval t.nightly=86400 --health.severity worker_down=info
        --web.listen-address [::1]:1 --web.listen-address h:2 --web.telemetry-path /m
        --web.config.file {os.devnull}
        --web.max-requests 7 --web.disable-exporter-metrics --no-web.lost --no-web.stats
        --log.level debug --log.format json
    """
    switches = [f"--{'' if on else 'no-'}collector.{name}" for name, on in COLLECTORS.items()]
    from_flags = read(*flags.split(), *switches)
    assert from_file == from_environment == from_flags
    assert from_file.web_listen_address == (Address("::1", 1), Address("h", 2))
    assert from_file.queues == ("q1", "q2")
    assert from_file.collectors == {"backend", "queues"}
    assert from_file.runtime_buckets == (1, 2.5)
    assert (from_file.runtime_buckets_of("t.slow"), from_file.runtime_buckets_of("t")) == (
        (60, 600),
        (1, 2.5),
    )
    assert dict(from_file.broker_transport_options) == {"a": 1, "b": "text"}
    assert dict(from_file.queue_limits) == {"a=b": 5, "*": 100}


def test_empty_variable_is_ignored() -> None:
    assert (
        read(CELERY_VITALS_TIMEOUT="", CELERY_VITALS_QUEUE="", CELERY_VITALS_BROKER_URL="")
        == Settings()
    )


def test_variables_with_several_values() -> None:
    settings = read(
        CELERY_VITALS_QUEUE="a,b  c, d", CELERY_VITALS_BROKER_TRANSPORT_OPTION="x=1 y=no z=[2]"
    )
    assert settings.queues == ("a", "b", "c", "d")
    assert dict(settings.broker_transport_options) == {"x": 1, "y": "no", "z": [2]}


def test_empty_configuration_file_is_valid(config: Path) -> None:
    config.write_text("# nothing yet\n")
    assert (
        read("--config.file", str(config))
        == read(CELERY_VITALS_CONFIG_FILE=str(config))
        == Settings()
    )


def test_single_value_for_a_list_in_the_file(config: Path) -> None:
    config.write_text("queue: long name, with comma\n")
    assert read("--config.file", str(config)).queues == ("long name, with comma",)


@pytest.mark.parametrize("newline", ["", "\n", "\r\n"])
def test_a_secret_from_a_file(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(f"redis://:s3cret@h{newline}".encode())
    for settings in (
        read("--broker-url-file", str(path)),
        read(CELERY_VITALS_BROKER_URL_FILE=str(path)),
    ):
        assert settings.broker_url is not None
        assert settings.broker_url.reveal() == "redis://:s3cret@h"


def test_default_buckets_show_long_waits_within_five_minutes() -> None:
    """Equal waits are the worst case: their 95th percentile is near the end of the bucket."""
    bounds = Settings().wait_buckets
    assert 300 in bounds, "the threshold of CeleryQueueWaitHigh"
    for wait in range(301, 1800):
        upper = min(bound for bound in bounds if bound >= wait)
        lower = max(bound for bound in bounds if bound < wait)
        assert abs(lower + 0.95 * (upper - lower) - wait) <= (300 if wait <= 1200 else 600), wait


def test_default_buckets_are_few() -> None:
    """Each bucket is a series per task and queue."""
    settings = Settings()
    assert len(settings.wait_buckets) <= 14
    assert len(settings.runtime_buckets) <= 14
