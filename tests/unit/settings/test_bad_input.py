"""Invalid values from every source: one line that names the source, exit code 2, no secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.command_line import BROKER, invoke, one_line, serve

GOLDEN = Path(__file__).parent / "bad_configs.txt"
BAD = sorted(Path(__file__).parent.joinpath("bad_configs").glob("*.yaml"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "vitals.yaml"


def error_of(path: Path) -> str:
    """Return the error of a bad configuration, without parts that depend on the installation."""
    shown = one_line(serve("--config.file", str(path))).replace(str(path), path.name)
    return re.sub(r"(unknown scheme .* \(expected one of:).*", r"\1 ...)", shown)


def test_bad_configs_match_the_golden_file() -> None:
    # To update it: make golden
    errors = "".join(f"{path.stem}\n    {error_of(path)}\n" for path in BAD)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(errors)
    assert errors == GOLDEN.read_text()


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_configs(path: Path) -> None:
    shown = error_of(path)
    assert f"{path.stem}\n    {shown}\n" in GOLDEN.read_text()
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--nonsense"], "No such option"),
        (["redis://:s3cret@h"], "unexpected argument (usage: vitals serve [OPTIONS])"),
        (["--", "redis://:s3cret@h"], "unexpected argument (usage: vitals serve [OPTIONS])"),
        (["-broker-url=redis://:s3cret@h"], "No such option"),
        (["--brokerurl=redis://:s3cret@h"], "No such option"),
        (["--broker-url"], "Option '--broker-url' requires an argument"),
        (
            ["--collector.queues=redis://:s3cret@h"],
            "Option '--collector.queues' does not take a value",
        ),
        (["--timeout=redis://:s3cret@h"], "--timeout: must be a number of seconds from 0.1 to 300"),
        (["--timeout=5\n6"], "--timeout: must be a number of seconds from 0.1 to 300, not '5\\n6'"),
        (
            ["--config.file=/nonexistent"],
            "--config.file: cannot read /nonexistent: No such file or directory",
        ),
        (
            ["--broker-url-file=redis://:s3cret@h"],
            "--broker-url-file: cannot read redis://***@h: No such file or directory",
        ),
        (["--broker-transport-option=s3cret"], "--broker-transport-option: must be NAME=VALUE"),
        (["--broker-transport-option=a=1"] * 2, "--broker-transport-option: duplicate name 'a'"),
        (
            ["--broker-url=rediz://:s3cret@h"],
            "--broker-url: unknown scheme 'rediz', did you mean 'redis'? (expected one of: ",
        ),
        (
            ["--broker-url-file=/dev/null", "--broker-url=redis://:s3cret@h"],
            "--broker-url and --broker-url-file are mutually exclusive",
        ),
        ([], "no broker: set --broker-url, or --app to read it from your Celery app"),
        (
            ["--app=nonexistent.module"],
            "--app: cannot import nonexistent.module: ModuleNotFoundError: No module",
        ),
        (["--app=json:loads"], "--app: json:loads must be a Celery app, not function"),
        (["--app=os"], "--app: cannot import os: AttributeError: "),
        (["--app=json:nothing"], "--app: module json has no attribute nothing"),
        (["--app=json:loads.nothing"], "--app: module json has no attribute loads.nothing"),
        (["--app=nonexistent:app"], "--app: cannot import nonexistent:app: ModuleNotFoundError: "),
    ],
)
def test_bad_arguments(args: list[str], message: str) -> None:
    shown = one_line(serve(*args))
    assert shown.startswith(message)
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TIMEOUT": "soon"}, "CELERY_VITALS_TIMEOUT: must be a number of seconds"),
        (
            {"COLLECTOR_QUEUES": "maybe"},
            "CELERY_VITALS_COLLECTOR_QUEUES: must be true or false, not 'maybe'",
        ),
        ({"WEB_LISTEN_ADDRESS": ":1 :x"}, "CELERY_VITALS_WEB_LISTEN_ADDRESS: must be :PORT"),
        ({"BROKER_URL": "rediz://:s3cret@h"}, "CELERY_VITALS_BROKER_URL: unknown scheme 'rediz'"),
        (
            {"BROKER_TRANSPORT_OPTION": "s3cret"},
            "CELERY_VITALS_BROKER_TRANSPORT_OPTION: must be NAME=VALUE",
        ),
        ({"CONFIG_FILE": "/nonexistent"}, "CELERY_VITALS_CONFIG_FILE: cannot read /nonexistent"),
        (
            {"BROKER_URL_FILE": "/dev/null"},
            "CELERY_VITALS_BROKER_URL_FILE: /dev/null: must not be empty",
        ),
        (
            {"BROKER_URL": "redis://:s3cret@h", "BROKER_URL_FILE": "/dev/null"},
            "CELERY_VITALS_BROKER_URL and CELERY_VITALS_BROKER_URL_FILE are mutually exclusive",
        ),
    ],
)
def test_bad_variables(variables: dict[str, str], message: str) -> None:
    shown = one_line(
        serve(env={f"CELERY_VITALS_{name}": value for name, value in variables.items()})
    )
    assert shown.startswith(message)
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("WORKER_TIMOUT", "WORKER_TIMEOUT"),
        ("QUEUES", "QUEUE"),
        ("LISTEN_ADDRESS", "WEB_LISTEN_ADDRESS"),
        ("TIMEOUT", None),
        ("PORT", None),  # set by Kubernetes for a service of that name
        ("SERVICE_HOST", None),
        ("SERVICE_PORT_HTTP", None),
        ("PORT_10818_TCP_ADDR", None),
    ],
)
def test_misspelled_variables_are_logged(
    variable: str, meant: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert serve(f"--broker-url={BROKER}", env={f"CELERY_VITALS_{variable}": "7"}).exit_code == 0
    warning = f"unknown environment variable CELERY_VITALS_{variable}"
    suggestion = f"(did you mean CELERY_VITALS_{meant}?)"
    assert caplog.messages == ([f"{warning} {suggestion}"] if meant else [])


def test_flag_and_file_of_one_secret_in_different_places(config: Path) -> None:
    config.write_text("broker-url: redis://:s3cret@h\n")
    shown = one_line(
        serve("--config.file", str(config), env={"CELERY_VITALS_BROKER_URL_FILE": os.devnull})
    )
    assert (
        shown == f"broker-url in {config} and CELERY_VITALS_BROKER_URL_FILE are mutually exclusive"
    )


def test_files_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe")
    assert one_line(serve("--config.file", str(path))) == f"{path}: not UTF-8 text"
    assert (
        one_line(serve("--broker-url-file", str(path)))
        == f"--broker-url-file: {path}: not UTF-8 text"
    )


def test_the_content_of_a_secret_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s3cret\n")
    shown = one_line(serve("--broker-url-file", str(path)))
    assert shown.startswith(f"--broker-url-file: {path}: must begin with a scheme")
    assert "s3cret" not in shown


def test_an_unknown_command_is_one_line() -> None:
    shown = one_line(invoke("redis://:s3cret@h"))
    assert shown.startswith("No such command")
    assert "s3cret" not in shown
