"""Addresses, signals, log."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from celery_vitals.errors import ConfigError
from celery_vitals.settings import Address
from celery_vitals.web.sockets import bind_all, socket_address
from tests.unit.web.conftest import Start

ROOT = Path(__file__).parents[3]
STOPS_WITHIN = 3.0
"""Seconds: two of the program, and one for a busy machine."""
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child() -> Iterator[Child]:
    """Starts tests.support.web_child with the given arguments."""
    started: list[subprocess.Popen[str]] = []

    def one(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.support.web_child", *arguments]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[float, str, str]:
    """Return the seconds until the process ends, and its output."""
    before = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    return time.monotonic() - before, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0(child: Child, number: signal.Signals) -> None:
    process = child("--listen", "127.0.0.1:0")
    pool = urllib3.PoolManager(retries=False)
    assert pool.request("GET", url_of(process) + "/metrics").status == 200
    seconds, out, err = stop(process, number)
    assert process.returncode == 0
    assert seconds < STOPS_WITHIN
    assert out == "closed 1.0\n"
    words = ("started", "listening", "stopped")
    assert err == "".join(f"INFO celery_vitals.web.server {word}\n" for word in words)


def test_blocked_scrapes_do_not_delay_shutdown(child: Child) -> None:
    process = child("--listen", "127.0.0.1:0", "--blocked")
    url = url_of(process)
    pool = urllib3.PoolManager(retries=False, maxsize=8)
    statuses: list[int] = []

    def scrape() -> None:
        statuses.append(pool.request("GET", url + "/metrics").status)

    clients = [threading.Thread(target=scrape) for _ in range(5)]
    for client in clients:
        client.start()
    time.sleep(0.5)
    assert pool.request("GET", url + "/-/ready").status == 200
    seconds, _, err = stop(process, signal.SIGTERM)
    for client in clients:
        client.join(5)
    assert process.returncode == 0
    assert seconds < STOPS_WITHIN
    assert statuses == [503] * 5
    assert "ERROR" not in err


def test_idle_clients_do_not_delay_shutdown(child: Child) -> None:
    process = child("--listen", "127.0.0.1:0", "--blocked")
    host, port = url_of(process).removeprefix("http://").split(":")
    with (
        socket.create_connection((host, int(port))) as idle,
        socket.create_connection((host, int(port))) as half,
    ):
        idle.sendall(b"")
        half.sendall(b"GET /metrics HTTP/1.1\r\n")
        time.sleep(0.2)
        seconds, _, _ = stop(process, signal.SIGTERM)
    assert process.returncode == 0
    assert seconds < STOPS_WITHIN


def test_slow_client_and_slow_close_do_not_delay_shutdown(child: Child) -> None:
    process = child("--listen", "127.0.0.1:0", "--worst")
    host, port = url_of(process).removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        time.sleep(1.7)  # longer than a stop, whose time must count from the signal
        seconds, out, _ = stop(process, signal.SIGTERM)
    assert process.returncode == 0
    assert seconds < STOPS_WITHIN
    assert 0 < float(out.removeprefix("closed ")) < 1


def test_ready_returns_503_while_scrapes_finish(start: Start) -> None:
    server = start()
    server.collector.go.clear()
    scrape = threading.Thread(target=lambda: server.get("/metrics"))
    scrape.start()
    assert server.collector.started.acquire(timeout=5)
    server.server.stop()
    seen: set[int] = set()
    until = time.monotonic() + 5
    while 503 not in seen and time.monotonic() < until:
        try:
            seen.add(server.get("/-/ready").status)
        except urllib3.exceptions.HTTPError:
            break
    assert 503 in seen
    server.collector.go.set()
    scrape.join(5)


def test_short_scrape_completes_before_shutdown(start: Start) -> None:
    server = start()
    server.collector.go.clear()
    statuses: list[int] = []
    scrape = threading.Thread(target=lambda: statuses.append(server.get("/metrics").status))
    scrape.start()
    assert server.collector.started.acquire(timeout=5)
    server.server.stop()
    threading.Timer(0.15, server.collector.go.set).start()
    scrape.join(5)
    assert statuses == [200]


def test_a_port_in_use_is_one_line_and_exit_code_2(child: Child) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = child("--listen", "127.0.0.1:0", "--listen", address)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert err == f"--web.listen-address: {address}: already in use\n"


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (Address("192.0.2.1", 0), "192.0.2.1:0: not an address of this machine"),
        (Address("name.invalid", 80), "name.invalid:80: cannot resolve the host name"),
        (Address("2001:db8::1", 0), "[2001:db8::1]:0: not an address of this machine"),
    ],
)
def test_addresses_that_cannot_be_bound(address: Address, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        bind_all([Address("127.0.0.1", 0), address])
    assert str(caught.value) == f"--web.listen-address: {problem}"


@pytest.mark.parametrize("taken_by", ["127.0.0.1", "0.0.0.0"])
def test_wildcard_address_fails_if_one_interface_is_in_use(taken_by: str) -> None:
    with socket.create_server((taken_by, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"^--web.listen-address: :{port}: already in use$"):
            bind_all([Address("", port)])


def reaches(host: str, sock: socket.socket) -> bool:
    try:
        with socket.create_connection((host, sock.getsockname()[1]), timeout=1):
            return True
    except OSError:
        return False


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_an_address_without_host_is_both_ipv4_and_ipv6() -> None:
    (sock,) = bind_all([Address("", 0)])
    with sock:
        assert reaches("127.0.0.1", sock)
        assert reaches("::1", sock) is has_ipv6()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_loopback_address_is_ipv4_only(host: str) -> None:
    (sock,) = bind_all([Address(host, 0)])
    with sock:
        assert socket_address(sock).startswith("127.0.0.1:")
        assert not reaches("::1", sock)


def test_host_name_with_both_families_is_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = socket.SOCK_STREAM
    found = [
        (socket.AF_INET6, kind, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, kind, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (sock,) = bind_all([Address("localhost", 0)])
    with sock:
        assert socket_address(sock).startswith("127.0.0.1:")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address() -> None:
    (sock,) = bind_all([Address("::1", 0)])
    with sock:
        assert socket_address(sock).startswith("[::1]:")
        assert reaches("::1", sock)
        assert not reaches("127.0.0.1", sock)


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_an_address_without_host_is_ipv4(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = socket.create_server

    def without_ipv6(
        address: Any, *, family: int = socket.AF_INET, **options: Any
    ) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, "no IPv6 here")
        return real(address, family=family, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    (sock,) = bind_all([Address("", 0)])
    with sock:
        assert socket_address(sock).startswith("0.0.0.0:")
    with pytest.raises(ConfigError):
        bind_all([Address("::", 0)])


def test_the_real_address_is_logged_and_every_address_answers(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "celery_vitals")
    server = start(web_listen_address=(Address("127.0.0.1", 0), Address("127.0.0.1", 0)))
    first, second = server.server.urls
    assert [
        record.__dict__["address"] for record in caplog.records if record.message == "listening"
    ] == [first, second]
    assert first != second
    for url in (first, second):
        assert server.pool.request("GET", url + "/-/healthy").status == 200


@pytest.mark.parametrize(("level", "logged"), [("info", False), ("debug", True)])
def test_requests_are_logged_at_debug_level_only(child: Child, level: str, logged: bool) -> None:
    process = child("--listen", "127.0.0.1:0", "--log-level", level)
    urllib3.PoolManager(retries=False).request("GET", url_of(process) + "/-/healthy")
    _, _, err = stop(process, signal.SIGTERM)
    assert ("GET /-/healthy" in err) is logged


def test_invalid_http_is_ignored(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    server = start()
    host, port = server.url.removeprefix("http://").split(":")
    for rubbish in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as client:
            client.sendall(rubbish)
            client.shutdown(socket.SHUT_WR)
            client.recv(1000)
    assert server.get("/-/healthy").status == 200
    assert caplog.messages == []
