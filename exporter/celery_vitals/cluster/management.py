"""RabbitMQ's management API: which queues there are, and what AMQP itself does not tell of them."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import urllib3

from celery_vitals.cluster.target import Target
from celery_vitals.deadline import Deadline

_COLUMNS = "name,type,exclusive,messages_ready,messages_unacknowledged,consumers,head_message_timestamp"
_RETRY_AFTER = 300.0
"""Seconds before an API that nobody configured, and that was not there, is tried again."""
_OK = 200
_PIECE = 65536
_PORTS = {False: 15672, True: 15671}


@dataclass(frozen=True)
class QueueInfo:
    """What the API tells of a queue; its numbers are up to five seconds old, and None where they are not there yet."""

    kind: str
    """classic, quorum or stream; empty where it does not tell."""
    exclusive: bool
    ready: int | None
    unacked: int | None
    consumers: int | None
    head_at: int | None
    """The timestamp that the producer has put on the oldest message, in seconds; unacknowledged ones count."""


class Management:
    """The API at the URL given, else where RabbitMQ puts it by default: on the broker's host, with its user."""

    def __init__(self, target: Target, url: str | None, io_timeout: float) -> None:
        self._given = url is not None
        parts = urlsplit(url if url is not None else _by_convention(target))
        broker = urlsplit(target.broker_urls[0])
        user = parts.username if parts.username is not None else broker.username or "guest"
        password = parts.password if parts.username is not None else broker.password or "guest"
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        self._headers = urllib3.make_headers(basic_auth=f"{unquote(user)}:{unquote(password or '')}")
        self._io_timeout = io_timeout
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, **_tls(target.broker_ssl))
        self._not_before = 0.0
        self._trouble = ""
        self.streams: frozenset[str] = frozenset()
        """The queues that are streams, by the last good answer."""

    def queues(self, virtual_host: str, deadline: Deadline) -> dict[str, QueueInfo] | str:
        """The queues of a virtual host; or, in words, why they cannot be had."""
        if time.monotonic() < self._not_before:
            return self._trouble
        timeout = max(0.1, min(self._io_timeout, deadline.remaining / 2))
        path = f"/api/queues/{quote(virtual_host, safe='')}?columns={_COLUMNS}"
        try:
            status, body = self._get(path, deadline.within(timeout))
            if status == _OK:
                infos = _infos(json.loads(body))
                self.streams = frozenset(name for name, info in infos.items() if info.kind == "stream")
                return infos
            self._trouble = f"the management API answers {status}"
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._trouble = f"the management API does not answer ({type(error).__name__})"
        except (ValueError, KeyError, TypeError, RecursionError):
            self._trouble = "what answers is no management API"
        if not self._given:
            self._not_before = time.monotonic() + _RETRY_AFTER
        return self._trouble

    def _get(self, path: str, deadline: Deadline) -> tuple[int, bytes]:
        """Status and body.  The library's timeout holds for each read; the deadline for all of them."""
        answer = self._pool.request(
            "GET",
            self._base + path,
            headers=self._headers,
            timeout=urllib3.Timeout(total=deadline.remaining),
            preload_content=False,
        )
        body = bytearray()
        try:
            while piece := answer.read1(_PIECE):
                body += piece
                if deadline.passed:
                    raise urllib3.exceptions.TimeoutError
        except BaseException:
            answer.close()
            raise
        answer.release_conn()
        return answer.status, bytes(body)


def _infos(rows: Any) -> dict[str, QueueInfo]:
    if not isinstance(rows, list):
        raise TypeError("not a list of queues")
    return {str(row["name"]): _info(row) for row in rows}


def _info(row: Mapping[str, Any]) -> QueueInfo:
    def number(column: str) -> int | None:
        value = row.get(column)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None

    return QueueInfo(
        kind=str(row.get("type") or ""),
        exclusive=bool(row.get("exclusive")),
        ready=number("messages_ready"),
        unacked=number("messages_unacknowledged"),
        consumers=number("consumers"),
        head_at=number("head_message_timestamp"),
    )


def _by_convention(target: Target) -> str:
    broker = urlsplit(target.broker_urls[0])
    tls = bool(target.broker_ssl) or broker.scheme == "amqps"
    host = broker.hostname or "localhost"
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{_PORTS[tls]}"


def _tls(options: Any) -> dict[str, Any]:
    """What the broker's own TLS options mean for an HTTP client."""
    if not isinstance(options, Mapping):
        return {}
    chosen = {
        "ca_certs": options.get("ca_certs"),
        "cert_file": options.get("certfile"),
        "key_file": options.get("keyfile"),
        "cert_reqs": "CERT_NONE" if options.get("cert_reqs") in (ssl.CERT_NONE, "none", "CERT_NONE") else None,
    }
    return {name: value for name, value in chosen.items() if value is not None}
