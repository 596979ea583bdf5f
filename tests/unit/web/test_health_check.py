"""The health check of a container, against running servers."""

from __future__ import annotations

import socket
from pathlib import Path

import bcrypt
import pytest

from celery_vitals.settings import Address, Settings
from celery_vitals.web.health_check import is_healthy
from tests.support.command_line import invoke, one_line
from tests.support.servers import HOST, free_port
from tests.unit.web.conftest import Start
from tests.unit.web.test_tls import Authority


def settings(url: str, web_config: Path | None = None) -> Settings:
    port = int(url.rpartition(":")[2])
    return Settings(web_listen_address=(Address(HOST, port),), web_config_file=web_config)


def test_healthy_server(start: Start) -> None:
    assert is_healthy(settings(start().url), 5)


def test_healthy_server_with_users(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text(
        f"basic_auth_users: {{me: '{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}'}}"
    )
    assert is_healthy(settings(start(web_config_file=config).url, config), 5)


@pytest.mark.parametrize(
    "more", [(), ("client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert",)]
)
@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_healthy_server_with_tls(
    start: Start, tmp_path: Path, version: str, more: tuple[str, ...]
) -> None:
    config = Authority(tmp_path).config(f"max_version: {version}", *more)
    assert is_healthy(settings(start(web_config_file=config).url, config), 5)


def test_no_server_is_unhealthy() -> None:
    assert not is_healthy(settings(f"http://{HOST}:{free_port()}"), 5)


def test_hanging_server_is_unhealthy() -> None:
    with socket.create_server((HOST, 0)) as frozen:
        assert not is_healthy(settings(f"http://{HOST}:{frozen.getsockname()[1]}"), 0.2)


def test_other_protocol_is_unhealthy() -> None:
    with socket.create_server((HOST, 0)) as other:
        other.listen()
        assert not is_healthy(settings(f"http://{HOST}:{other.getsockname()[1]}", None), 0.2)


def test_wildcard_address_is_checked_on_loopback(start: Start) -> None:
    running = start(web_listen_address=(Address("", 0),))
    port = int(running.url.rpartition(":")[2])
    assert is_healthy(Settings(web_listen_address=(Address("", port),)), 5)


def test_healthy_command(start: Start) -> None:
    address = start().url.removeprefix("http://")
    result = invoke("healthy", "--web.listen-address", address)
    assert (result.exit_code, result.output) == (0, "")
    result = invoke("healthy", env={"CELERY_VITALS_WEB_LISTEN_ADDRESS": f"{HOST}:{free_port()}"})
    assert (result.exit_code, result.stderr) == (1, "celery-vitals: no response\n")


def test_healthy_with_invalid_web_configuration_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text("users: {}")
    assert "--web.config.file" in one_line(invoke("healthy", "--web.config.file", str(config)))
