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
from kombu import Connection

from celery_vitals.brokers.target import Target
from celery_vitals.deadline import Deadline

_COLUMNS = "name,type,exclusive,arguments,messages_ready,messages_unacknowledged,consumers,head_message_timestamp"
_RETRY_AFTER = 300.0
"""Seconds before an API that nobody configured, and that never was there, is tried again."""
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
    """The timestamp that the producer has put on the message at the head, in seconds; unacknowledged ones count."""
    by_priority: bool
    """Whether a message of a higher priority comes to the head before an older one."""


class Management:
    """The API at the URL given, else where RabbitMQ puts it by default: on the host that a connection leads to.

    Without a user of its own it is asked as the user of that connection.
    """

    def __init__(self, target: Target, url: str | None, io_timeout: float) -> None:
        parts = urlsplit(url or "")
        self._base = (
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
            if url
            else ""
        )
        self._user = (
            (unquote(parts.username), unquote(parts.password or ""))
            if parts.username is not None
            else None
        )
        self._io_timeout = io_timeout
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, **_tls(target.broker_ssl))
        self._there = self._left_alone = ""
        """Addresses: where it last was, and where it is not looked for until `_not_before`."""
        self._not_before = 0.0
        self._believed: tuple[str, str] | None = None
        """The address whose cluster was found to be the broker's, and the name of that."""
        self._trouble = ""
        self.streams: frozenset[str] = frozenset()
        """The queues that are streams, by the last good answer."""

    def queues(self, connection: Connection, deadline: Deadline) -> dict[str, QueueInfo] | str:
        """The queues of the virtual host of a connection that is open; or, in words, why they cannot be had."""
        base = self._base or _by_convention(connection)
        if base == self._left_alone and time.monotonic() < self._not_before:
            return self._trouble
        until = deadline.within(max(0.1, min(self._io_timeout, deadline.remaining / 2)))
        user, password = self._user or (
            connection.userid or "guest",
            connection.password or "guest",
        )
        # The library takes characters of Latin-1 for bytes, and RabbitMQ bytes for UTF-8.
        headers = urllib3.make_headers(basic_auth=f"{user}:{password}".encode().decode("latin-1"))
        path = f"/api/queues/{quote(connection.virtual_host or '/', safe='')}?columns={_COLUMNS}"
        try:
            status, body = self._get(base + path, headers, until)
            infos = _infos(json.loads(body)) if status == _OK else None
            if infos is None:
                self._trouble = f"the management API answers {status}"
            elif stranger := self._stranger(base, headers, connection, until):
                self._trouble = f"the management API is that of another RabbitMQ, {stranger}"
            else:
                self._there = base
                self.streams = frozenset(
                    name for name, info in infos.items() if info.kind == "stream"
                )
                return infos
        except (urllib3.exceptions.HTTPError, OSError) as error:
            self._trouble = f"the management API does not answer ({type(error).__name__})"
        except (ValueError, KeyError, TypeError, RecursionError):
            self._trouble = "what answers is no management API"
        if base not in (self._base, self._there):
            self._left_alone, self._not_before = base, time.monotonic() + _RETRY_AFTER
        return self._trouble

    def _stranger(
        self, base: str, headers: dict[str, str], connection: Connection, deadline: Deadline
    ) -> str:
        """The name of the API's cluster when it is not the connection's: of two brokers on one host, one alone can have
        the default port.  Empty where it is, and where one of the two does not tell."""
        ours = connection.connection.server_properties.get("cluster_name")
        if not ours or self._believed == (base, ours):
            return ""
        status, body = self._get(f"{base}/api/cluster-name", headers, deadline)
        told = json.loads(body) if status == _OK else None
        theirs = told.get("name") if isinstance(told, dict) else None
        if theirs == ours:
            self._believed = base, ours
        return str(theirs) if theirs and theirs != ours else ""

    def _get(self, url: str, headers: dict[str, str], deadline: Deadline) -> tuple[int, bytes]:
        """Status and body.  The library's timeout holds for each read; the deadline for all of them."""
        answer = self._pool.request(
            "GET",
            url,
            headers=headers,
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
        return (
            value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
        )

    arguments = row.get("arguments")
    return QueueInfo(
        kind=str(row.get("type") or ""),
        exclusive=bool(row.get("exclusive")),
        ready=number("messages_ready"),
        unacked=number("messages_unacknowledged"),
        consumers=number("consumers"),
        head_at=number("head_message_timestamp"),
        by_priority=isinstance(arguments, Mapping) and "x-max-priority" in arguments,
    )


def _by_convention(connection: Connection) -> str:
    tls = bool(connection.ssl) or connection.transport_cls == "amqps"
    host = connection.hostname or "localhost"
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{_PORTS[tls]}"


def _tls(options: Any) -> dict[str, Any]:
    """What the broker's own TLS options mean for an HTTP client."""
    if not isinstance(options, Mapping):
        return {}
    chosen = {
        "ca_certs": options.get("ca_certs"),
        "cert_file": options.get("certfile"),
        "key_file": options.get("keyfile"),
        "cert_reqs": "CERT_NONE"
        if options.get("cert_reqs") in (ssl.CERT_NONE, "none", "CERT_NONE")
        else None,
    }
    return {name: value for name, value in chosen.items() if value is not None}
