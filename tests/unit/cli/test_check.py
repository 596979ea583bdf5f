"""The command `check` against a running exporter, here an HTTP server with fixed responses."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import Result

from tests.support.command_line import invoke
from tests.support.health_documents import document, finding

Respond = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def exporter(respond: Respond) -> Iterator[str]:
    """Serve one response to every request, and return the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            respond(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(body: object, status: int = 200, path: str = "/health") -> Respond:
    def respond(request: BaseHTTPRequestHandler) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status if request.path == path else 404)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return respond


def check(respond: Respond, *arguments: str, prefix: str = "") -> Result:
    with exporter(respond) as url:
        return invoke("check", "--url", url + prefix, *arguments)


def error(result: Result) -> str:
    """Return the error of a check without a verdict."""
    assert result.exit_code == 3
    assert result.stdout == ""
    found = re.fullmatch(r"celery-vitals: error: (.*)\n", result.stderr)
    assert found is not None, result.stderr
    return found[1]


@pytest.mark.parametrize(
    ("status", "http_status", "exit_code"),
    [("healthy", 200, 0), ("degraded", 200, 1), ("unhealthy", 503, 2), ("unknown", 503, 3)],
)
def test_exit_code_is_the_verdict(status: str, http_status: int, exit_code: int) -> None:
    result = check(answer(document(status), http_status))
    assert result.exit_code == exit_code
    assert result.stdout.startswith(f"{status}: 0 findings\n")
    assert result.stderr == ""


def test_output_without_a_terminal_has_no_colour() -> None:
    assert "\x1b" not in check(answer(document("degraded", findings=[finding()]))).stdout


def test_json_is_the_document() -> None:
    result = check(answer(document("degraded")), "--json")
    assert json.loads(result.stdout) == document("degraded")


def test_nagios_writes_one_line() -> None:
    result = check(answer(document("unhealthy"), 503), "--nagios")
    assert result.exit_code == 2
    assert re.fullmatch(r"CELERY CRITICAL - .*\n", result.stdout)


def test_exporter_below_a_prefix() -> None:
    respond = answer(document(), path="/vitals/health")
    assert check(respond, prefix="/vitals").exit_code == 0
    assert check(respond, prefix="/vitals/").exit_code == 0


def test_user_and_password_of_the_url_are_sent_and_never_shown() -> None:
    seen: list[str | None] = []

    def respond(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        answer({}, 401)(request)

    with exporter(respond) as url:
        given = url.replace("//", "//us%40er:s3cret%2F@")
        text = error(invoke("check", "--url", given))
    assert seen == ["Basic dXNAZXI6czNjcmV0Lw=="]
    assert "authentication required" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("respond", "expected"),
    [
        (answer({}, 404), "no /health there"),
        (answer({}, 500), "HTTP status 500"),
        (answer({}), "not a health document"),
        (answer(b"<html>"), "not a health document"),
        (answer(b"[" * 100_000), "not a health document"),
        (answer(b"x" * ((16 << 20) + 1)), "response too large"),
    ],
)
def test_response_without_a_document_is_one_line(respond: Respond, expected: str) -> None:
    assert expected in error(check(respond))


def test_other_protocol_is_one_line() -> None:
    def respond(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"-ERR wrong number of arguments\r\n")

    assert "ERR" in error(check(respond))


def test_nothing_listens() -> None:
    with exporter(answer({})) as url:
        pass
    assert error(invoke("check", "--url", url)) == f"{url}: Connection refused"


def test_slow_exporter_is_given_up_at_the_timeout() -> None:
    stop = threading.Event()

    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        while not stop.wait(0.05):
            request.wfile.write(b" ")

    begin = time.monotonic()
    try:
        text = error(check(respond, "--timeout", "0.5"))
    finally:
        stop.set()
    assert text.endswith("no response within 0.5 s")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--url", "exporter:10818"], "--url: must begin with"),
        (["--url", "ftp://exporter"], "--url: must begin with http:// or https://"),
        (["--url", "http://h", "--broker-url", "redis://h"], "--broker-url has no effect"),
        (["--url", "http://h", "--min-workers", "2"], "--health.min-workers has no effect"),
        (["--url", "http://h", "--json", "--nagios"], "mutually exclusive"),
        (["--url", "http://h", "--watch", "0"], "--watch"),
        (["--urll", "http://h"], "--urll"),
        (["--queue-limit", "reports"], "--queue-limit"),
        (["surplus"], "unexpected argument"),
    ],
)
def test_wrong_usage_has_no_verdict(arguments: list[str], expected: str) -> None:
    assert expected in error(invoke("check", *arguments))


def test_options_of_the_cluster_in_the_environment_do_not_matter_to_a_running_exporter() -> None:
    with exporter(answer(document())) as url:
        result = invoke(
            "check", env={"CELERY_VITALS_URL": url, "CELERY_VITALS_BROKER_URL": "redis://h"}
        )
    assert result.exit_code == 0
