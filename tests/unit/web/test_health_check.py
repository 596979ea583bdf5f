"""The question of a container's health check, asked of running servers."""

from __future__ import annotations

import socket
from pathlib import Path

import bcrypt
import pytest

from celery_vitals.settings import Address, Settings
from celery_vitals.web.health_check import alive
from tests.support.command_line import invoke, one_line
from tests.support.servers import HOST, free_port
from tests.unit.web.conftest import Start
from tests.unit.web.test_tls import Authority


def settings(url: str, web_config: Path | None = None) -> Settings:
    port = int(url.rpartition(":")[2])
    return Settings(web_listen_address=(Address(HOST, port),), web_config_file=web_config)


def test_one_that_answers(start: Start) -> None:
    assert alive(settings(start().url), 5)


def test_one_that_asks_for_a_user(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text(
        f"basic_auth_users: {{me: '{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}'}}"
    )
    assert alive(settings(start(web_config_file=config).url, config), 5)


@pytest.mark.parametrize(
    "more", [(), ("client_ca_file: ca.pem, client_auth_type: RequireAndVerifyClientCert",)]
)
@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_one_behind_tls(start: Start, tmp_path: Path, version: str, more: tuple[str, ...]) -> None:
    config = Authority(tmp_path).config(f"max_version: {version}", *more)
    assert alive(settings(start(web_config_file=config).url, config), 5)


def test_none_is_there() -> None:
    assert not alive(settings(f"http://{HOST}:{free_port()}"), 5)


def test_one_that_hangs() -> None:
    with socket.create_server((HOST, 0)) as frozen:
        assert not alive(settings(f"http://{HOST}:{frozen.getsockname()[1]}"), 0.2)


def test_something_else_listens() -> None:
    with socket.create_server((HOST, 0)) as other:
        other.listen()
        assert not alive(settings(f"http://{HOST}:{other.getsockname()[1]}", None), 0.2)


def test_every_interface_is_asked_here(start: Start) -> None:
    running = start(web_listen_address=(Address("", 0),))
    port = int(running.url.rpartition(":")[2])
    assert alive(Settings(web_listen_address=(Address("", port),)), 5)


def test_the_command(start: Start) -> None:
    address = start().url.removeprefix("http://")
    result = invoke("healthy", "--web.listen-address", address)
    assert (result.exit_code, result.output) == (0, "")
    result = invoke("healthy", env={"CELERY_VITALS_WEB_LISTEN_ADDRESS": f"{HOST}:{free_port()}"})
    assert (result.exit_code, result.stderr) == (1, "celery-vitals: no answer\n")


def test_a_web_configuration_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "web.yml"
    config.write_text("users: {}")
    assert "--web.config.file" in one_line(invoke("healthy", "--web.config.file", str(config)))
