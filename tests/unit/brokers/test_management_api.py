"""The management API returns queues or raises why it cannot: never a text in their place."""

from __future__ import annotations

import http.server
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3

from celery_vitals.brokers.rabbitmq.management import ManagementApi, ManagementUnavailable
from celery_vitals.brokers.rabbitmq.management_answers import NodeInfo
from celery_vitals.deadline import Deadline

QUEUES = b'[{"name": "orders", "type": "quorum", "messages_ready": 3}]'


def connection(cluster: str = "rabbit@here") -> Any:
    """A connection of kombu, as far as the API needs one."""
    return SimpleNamespace(
        userid="guest",
        password="guest",
        virtual_host="/",
        ssl=False,
        transport_cls="amqp",
        hostname="h",
        connection=SimpleNamespace(server_properties={"cluster_name": cluster}),
    )


def answering(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, name: str) -> None:
    def get(self: ManagementApi, url: str, *_: Any) -> tuple[int, bytes]:
        return (200, b'{"name": "%s"}' % name.encode()) if "cluster-name" in url else (status, body)

    monkeypatch.setattr(ManagementApi, "_get", get)


def test_queues_are_returned_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, 200, QUEUES, "rabbit@here")
    api = ManagementApi(None, "http://h", 1.0)
    queues = api.queues(connection(), Deadline.after(1))
    assert (queues["orders"].kind, queues["orders"].ready) == ("quorum", 3)


@pytest.mark.parametrize(
    ("status", "body", "name", "reason"),
    [
        (401, b"", "rabbit@here", "returns status 401"),
        (200, b"<html>", "rabbit@here", "not one of a management API"),
        (200, b'{"error": "x"}', "rabbit@here", "not one of a management API"),
        (200, QUEUES, "rabbit@there", "another RabbitMQ, rabbit@there"),
    ],
)
def test_unavailable_is_raised_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, name: str, reason: str
) -> None:
    answering(monkeypatch, status, body, name)
    with pytest.raises(ManagementUnavailable, match=reason):
        ManagementApi(None, "http://h", 1.0).queues(connection(), Deadline.after(1))


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'["x"]', b"[null]", b"[[]]", b"5", b'"x"'])
def test_an_answer_about_nodes_of_another_form(
    monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    answering(monkeypatch, 200, body, "rabbit@here")
    with pytest.raises(ManagementUnavailable, match="not one of a management API"):
        ManagementApi(None, "http://h", 1.0).nodes(connection(), Deadline.after(1))


def test_alarms_and_memory_that_are_no_flags_and_numbers_are_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = b'[{"mem_used": "1", "mem_limit": -1, "mem_alarm": "no", "disk_free_alarm": 0}]'
    answering(monkeypatch, 200, body, "rabbit@here")
    [node] = ManagementApi(None, "http://h", 1.0).nodes(connection(), Deadline.after(1))
    assert node == NodeInfo(None, None, None, None)


def test_no_time_left_is_not_an_answer_of_another_form() -> None:
    with pytest.raises(ManagementUnavailable, match="does not respond"):
        ManagementApi(None, "http://h", 1.0).queues(connection(), Deadline.after(0))


def test_an_api_that_is_not_configured_is_not_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answering(monkeypatch, 404, b"", "rabbit@here")
    api = ManagementApi(None, None, 1.0)
    with pytest.raises(ManagementUnavailable, match="404"):
        api.queues(connection(), Deadline.after(1))
    answering(monkeypatch, 200, QUEUES, "rabbit@here")
    with pytest.raises(ManagementUnavailable, match="404"):
        api.queues(connection(), Deadline.after(1))


@pytest.mark.parametrize(("url", "responded"), [("http://h", False), (None, True)])
def test_an_api_that_is_configured_or_has_responded_is_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch, url: str | None, responded: bool
) -> None:
    api = ManagementApi(None, url, 1.0)
    if responded:
        answering(monkeypatch, 200, QUEUES, "rabbit@here")
        api.queues(connection(), Deadline.after(1))
    answering(monkeypatch, 404, b"", "rabbit@here")
    with pytest.raises(ManagementUnavailable, match="404"):
        api.queues(connection(), Deadline.after(1))
    answering(monkeypatch, 200, QUEUES, "rabbit@here")
    assert "orders" in api.queues(connection(), Deadline.after(1))


@pytest.mark.parametrize("error", [ConnectionRefusedError(), urllib3.exceptions.ReadTimeoutError])
def test_an_api_that_does_not_respond_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    def get(*_: Any) -> tuple[int, bytes]:
        raise error if isinstance(error, Exception) else error(None, "http://h", "late")

    monkeypatch.setattr(ManagementApi, "_get", get)
    with pytest.raises(ManagementUnavailable, match="does not respond"):
        ManagementApi(None, "http://h", 1.0).queues(connection(), Deadline.after(1))


def test_an_error_of_the_program_is_not_taken_for_an_unavailable_api(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get(*_: Any) -> tuple[int, bytes]:
        raise AttributeError

    monkeypatch.setattr(ManagementApi, "_get", get)
    with pytest.raises(AttributeError):
        ManagementApi(None, "http://h", 1.0).queues(connection(), Deadline.after(1))


@pytest.mark.parametrize(("remaining", "expected"), [(10.0, 1.0), (1.0, 0.5), (0.0, 0.0)])
def test_the_api_gets_up_to_half_of_the_time(
    monkeypatch: pytest.MonkeyPatch, remaining: float, expected: float
) -> None:
    seconds: list[float] = []

    def get(api: ManagementApi, url: str, headers: Any, deadline: Deadline) -> tuple[int, bytes]:
        seconds.append(deadline.remaining)
        return 404, b""

    monkeypatch.setattr(ManagementApi, "_get", get)
    with pytest.raises(ManagementUnavailable):
        ManagementApi(None, "http://h", 1.0).queues(connection(), Deadline.after(remaining))
    assert seconds[0] == pytest.approx(expected, abs=0.05)


def test_a_body_that_never_ends_is_cut_off_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ManagementApi(None, "http://h", 0.1)
    closed: list[bool] = []
    endless = SimpleNamespace(read1=lambda *_, **__: b"[", close=lambda: closed.append(True))
    monkeypatch.setattr(api._pool, "request", lambda *_, **__: endless)
    with pytest.raises(ManagementUnavailable, match="does not respond"):
        api.queues(connection(), Deadline.after(5))
    assert closed == [True]


@pytest.mark.parametrize(
    ("url", "requested"),
    [
        ("http://h:15672", "http://h:15672/api/queues/%2F"),
        ("http://h:15672/", "http://h:15672/api/queues/%2F"),
        ("http://h:15672/api", "http://h:15672/api/queues/%2F"),
        ("http://u:p%40@h:15672/api/", "http://h:15672/api/queues/%2F"),
        ("http://h/api//", "http://h/api/queues/%2F"),
        ("http://h/rabbit/api/", "http://h/rabbit/api/queues/%2F"),
        ("https://h/rabbit-api/", "https://h/rabbit-api/api/queues/%2F"),
        ("https://h/api/rabbit", "https://h/api/rabbit/api/queues/%2F"),
    ],
)
def test_the_url_may_include_the_path_of_the_api(
    url: str, requested: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def get(self: ManagementApi, address: str, *_: Any) -> tuple[int, bytes]:
        asked.append(address.partition("?")[0])
        return 200, QUEUES if "queues" in address else b'{"name": "rabbit@here"}'

    monkeypatch.setattr(ManagementApi, "_get", get)
    ManagementApi(None, url, 1.0).queues(connection(), Deadline.after(1))
    assert asked[0] == requested


def test_a_response_over_the_limit_is_unavailable_and_not_read_to_its_end() -> None:
    sent = 0

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal sent
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while sent < 200:
                    self.wfile.write(bytes(1024 * 1024))
                    sent += 1

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = ManagementApi(None, f"http://127.0.0.1:{server.server_port}", 20.0)
        with pytest.raises(ManagementUnavailable, match="has more than 16777216 bytes"):
            api.queues(connection(), Deadline.after(20))
        server.shutdown()
    assert sent < 100


@pytest.mark.parametrize(
    ("queue", "requests"),
    [
        ('"messages_ready": 0, "messages_unacknowledged": 0', 1),
        ('"messages_ready": 9, "messages_unacknowledged": 1', 1),
        ('"messages_ready": 9, "messages_unacknowledged": 0', 1),
        ('"messages_ready": 9, "messages_unacknowledged": 0, "head_message_timestamp": 1', 2),
        ('"messages_ready": 0, "messages_unacknowledged": 0, "type": "stream"', 2),
        ('"type": "quorum"', 2),
    ],
)
def test_statistics_are_requested_where_a_queue_has_a_number_only_there(
    monkeypatch: pytest.MonkeyPatch, queue: str, requests: int
) -> None:
    asked: list[str] = []

    def get(self: ManagementApi, address: str, *_: Any) -> tuple[int, bytes]:
        asked.append(address)
        answer = (
            '{"name": "rabbit@here"}' if "cluster" in address else f'[{{"name": "q", {queue}}}]'
        )
        return 200, answer.encode()

    monkeypatch.setattr(ManagementApi, "_get", get)
    api = ManagementApi(None, "http://h", 1.0)
    api.queues(connection(), Deadline.after(1))
    asked.clear()
    api.queues(connection(), Deadline.after(1))
    assert len(asked) == requests
