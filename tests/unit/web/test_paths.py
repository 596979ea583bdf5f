"""Paths, methods and headers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from celery_vitals.exporter import Collector
from celery_vitals.settings import Settings
from celery_vitals.web.app import App
from tests.support.web_fakes import FakeCollector
from tests.unit.web.conftest import Start


@pytest.mark.parametrize(
    "path", ["/metrics", "/", "/-/healthy", "/-/ready", "/health", "/lost", "/stats"]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_and_head(start: Start, path: str, method: str) -> None:
    answer = start().get(path, method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert answer.data.count(b"\n") == 1


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/-/healthy", "/-/ready", "/health", "/lost", "/stats"]
)
def test_head(start: Start, path: str) -> None:
    answer = start().get(path, "HEAD")
    assert (answer.status, answer.data) == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/metrics/", "/favicon.ico", "/-/reload", "/-/healthy/x", "/lost/", "//", "/%00"],
)
def test_everything_else_is_not_found(start: Start, path: str) -> None:
    answer = start().get(path, redirect=False)
    assert answer.status == 404
    health = "/health, /health/live, /health/ready"
    named = "/worker/NAME, /queue/NAME"
    expected = (
        f"Not found (paths: /, /-/healthy, /-/ready, {health}, /lost, /stats, {named}, /metrics)"
    )
    assert answer.data == f"{expected}\n".encode()


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/-/healthy", "/-/ready", "/health", "/lost", "/lost?x", "/nowhere"]
)
def test_security_headers_of_every_response(start: Start, path: str) -> None:
    headers = start().get(path).headers
    assert "Server" not in headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "deny"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none';")


def test_healthy_and_ready(start: Start) -> None:
    server = start()
    assert server.get("/-/healthy").data == b"ok\n"
    assert (server.get("/-/ready").status, server.get("/-/ready").data) == (200, b"ready\n")


def test_not_ready_while_stopping() -> None:
    app = App(cast(Collector, FakeCollector()), Settings())

    async def ask() -> list[int]:
        await app.stop(grace=0)
        return [
            (await get_asgi(app.asgi, path))[0] for path in ("/-/ready", "/-/healthy", "/metrics")
        ]

    assert asyncio.run(ask()) == [503, 200, 503]


def test_mounted_in_another_app() -> None:
    app = App(cast(Collector, FakeCollector()), Settings()).asgi
    host = Starlette(routes=[Mount("/vitals", app)])
    status, body = asyncio.run(get_asgi(host, "/vitals/metrics"))
    assert status == 200
    assert b"celery_broker_up 1.0" in body
    assert asyncio.run(get_asgi(host, "/vitals/"))[0] == 200
    assert asyncio.run(get_asgi(host, "/metrics"))[0] == 404


async def get_asgi(
    app: Any, path: str, client: tuple[str, int] | None = None, **headers: str
) -> tuple[int, bytes]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": client,
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)
