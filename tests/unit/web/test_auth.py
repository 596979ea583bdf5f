"""Authentication and headers of the web configuration file, on a running server."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
import time
from pathlib import Path

import bcrypt
import pytest
import urllib3

from celery_vitals.web.auth import Users
from tests.unit.web.conftest import Running, Start

NO_TEXT = b"\xff:\xff"


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def basic(user: str, password: str) -> dict[str, str]:
    return urllib3.make_headers(basic_auth=f"{user}:{password}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{alice: {hashed('right')}, bob: {hashed('other')}}}")
    return path


@pytest.fixture
def server(start: Start, file: Path) -> Running:
    return start(web_config_file=file)


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/-/healthy", "/-/ready", "/lost", "/stats", "/nowhere"]
)
def test_every_path_needs_a_user(server: Running, path: str) -> None:
    answer = server.get(path)
    assert (answer.status, answer.data) == (401, b"Unauthorized\n")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert server.get(path, headers=basic("alice", "right")).status != 401
    assert server.collector.asked == [] or path == "/metrics"


@pytest.mark.parametrize(
    ("user", "password", "status"),
    [
        ("alice", "right", 200),
        ("bob", "other", 200),
        ("alice", "wrong", 401),
        ("alice", "other", 401),
        ("alice", "", 401),
        ("carol", "right", 401),
        ("", "right", 401),
        ("Alice", "right", 401),
        ("alice", "right\x00", 401),
        ("alice", "x" * 500, 401),
    ],
)
def test_valid_credentials_are_accepted(
    server: Running, user: str, password: str, status: int
) -> None:
    for _ in range(2):
        assert server.get("/metrics", headers=basic(user, password)).status == status


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic YWxpY2U=",
        "Bearer abc",
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
    ],
)
def test_malformed_authorization_header_is_rejected(server: Running, header: str) -> None:
    assert server.get("/-/healthy", headers={"Authorization": header}).status == 401


def test_authorization_scheme_is_case_insensitive(server: Running) -> None:
    header = basic("alice", "right")["authorization"].replace("Basic", "bAsIC")
    assert server.get("/-/healthy", headers={"Authorization": header}).status == 200


def test_users_and_headers_change_without_a_restart(
    server: Running, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "celery_vitals")
    old, new = basic("alice", "right"), basic("alice", "newer")
    assert server.get("/metrics", headers=old).status == 200
    frame = "http_server_config: {headers: {X-Frame-Options: sameorigin}}"
    file.write_text(f"basic_auth_users: {{alice: {hashed('newer')}}}\n{frame}")
    assert server.get("/metrics", headers=old).status == 401
    answer = server.get("/metrics", headers=new)
    assert answer.status == 200
    assert answer.headers["X-Frame-Options"] == "sameorigin"
    assert caplog.messages == [f"reloaded {file}"]


def test_a_bad_new_file_keeps_the_old_settings_and_is_logged_once(
    server: Running, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = file.read_text()
    file.write_text("basic_auth_users: {alice: s3cret}")
    for _ in range(3):
        assert server.get("/metrics", headers=basic("alice", "right")).status == 200
        assert server.get("/metrics", headers=basic("alice", "s3cret")).status == 401
    file.unlink()
    for _ in range(3):
        assert server.get("/metrics", headers=basic("alice", "right")).status == 200
    kept = "; the previous configuration stays in effect"
    hint = "(create one with: htpasswd -nBC 10 NAME)"
    assert caplog.messages == [
        f"--web.config.file: {file}:1: basic_auth_users: must be a bcrypt hash {hint}{kept}",
        f"--web.config.file: {file}: cannot read the file: No such file or directory{kept}",
    ]
    file.write_text(good.replace("alice", "carol"))
    assert server.get("/metrics", headers=basic("alice", "right")).status == 401
    assert server.get("/metrics", headers=basic("carol", "right")).status == 200


class Checks:
    """Records the bcrypt checks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashes: list[bytes] = []
        self.at_once = 0
        self._lock = threading.Lock()
        self._real = bcrypt.checkpw
        monkeypatch.setattr(bcrypt, "checkpw", self._check)

    def _check(self, password: bytes, hashed: bytes) -> bool:
        self.hashes.append(hashed)
        assert self._lock.acquire(blocking=False), "concurrent checks"
        try:
            assert threading.current_thread().name == "bcrypt"
            time.sleep(0.02)
            return self._real(password, hashed)
        finally:
            self._lock.release()


def test_good_credentials_are_checked_once(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = Checks(monkeypatch)
    scrapes = [
        threading.Thread(target=lambda: server.get("/-/healthy", headers=basic("alice", "right")))
        for _ in range(5)
    ]
    for scrape in scrapes:
        scrape.start()
    for scrape in scrapes:
        scrape.join(5)
    assert len(checks.hashes) == 1
    for _ in range(3):
        server.get("/-/healthy", headers=basic("alice", "wrong"))
    assert len(checks.hashes) == 4


def test_an_unknown_user_costs_as_much_as_the_costliest(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Checks(monkeypatch)
    cheap, costly = hashed("right", 4).encode(), hashed("right", 6).encode()

    async def ask() -> list[bool]:
        users, known = Users(), {b"alice": cheap, b"bob": costly}
        header = basic("carol", "right")["authorization"]
        return [await users.authenticate(header, known) for _ in range(2)]

    assert asyncio.run(ask()) == [False, False]
    assert checks.hashes == [costly, costly]


def test_only_the_first_72_bytes_of_a_password_count() -> None:
    known = {b"alice": bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))}

    async def ask(password: str) -> bool:
        return await Users().authenticate(basic("alice", password)["authorization"], known)

    assert asyncio.run(ask("x" * 90))
    assert not asyncio.run(ask("x" * 71))
