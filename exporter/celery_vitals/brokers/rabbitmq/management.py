"""RabbitMQ's management API: the queues that exist, and numbers that AMQP does not report."""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import urllib3
from kombu import Connection

from celery_vitals.brokers.rabbitmq.dead_letters import Binding, bindings_in, exchange_types
from celery_vitals.brokers.rabbitmq.management_answers import (
    NodeInfo,
    QueueInfo,
    completed,
    declared_queues,
    dropped_messages,
    node_infos,
    queue_infos,
    requires_statistics,
)
from celery_vitals.brokers.server_facts import DeclaredQueue
from celery_vitals.deadline import Deadline
from celery_vitals.third_party import py_amqp

_PRESENT = (
    "columns=name,type,exclusive,auto_delete,arguments,messages_ready,"
    "messages_unacknowledged"
    "&disable_stats=true&enable_queue_totals=true"
)
"""With these parameters classic queues report their numbers of this moment, and no statistics."""
_STATISTICS = (
    "columns=name,messages_ready,messages_unacknowledged,consumers,head_message_timestamp"
    ",effective_policy_definition"
)
_STATISTICS_FOR = 30.0
"""Seconds for which consumers of reply queues and policies are taken from the last statistics."""
_BINDING_COLUMNS = "source,destination,destination_type,routing_key"
_DECLARATION_COLUMNS = "name,type,durable,arguments,effective_policy_definition,messages,consumers"
_NODE_COLUMNS = "name,mem_used,mem_limit,mem_alarm,disk_free_alarm"
_RETRY_AFTER = 300.0
"""Seconds before an API that is not configured, and never responded, is tried again."""
_SHORTEST_TIMEOUT = 0.1
_OK = 200
_PIECE = 65536
_MAX_RESPONSE = 16 * 1024 * 1024
"""Bytes; fifty thousand queues take less."""
_PORTS = {False: 15672, True: 15671}


class ManagementUnavailable(Exception):
    """The queues cannot be listed; the text is the reason, part of a sentence."""


_T = TypeVar("_T")


class ManagementApi:
    """The API at the URL given, else at RabbitMQ's default port of the connected host.

    Without a user of its own it authenticates as the user of the connection.
    """

    def __init__(self, broker_tls: Any, url: str | None, io_timeout: float) -> None:
        parts = urlsplit(url or "")
        self._base = (
            f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{_prefix(parts.path)}"
            if url
            else ""
        )
        self._user = (
            (unquote(parts.username), unquote(parts.password or ""))
            if parts.username is not None
            else None
        )
        self._io_timeout = io_timeout
        self._pool = urllib3.PoolManager(maxsize=1, retries=False, **_tls(broker_tls))
        self._responded_at = ""
        """The address that responded last."""
        self._skipped = ""
        """The address that is not tried until `_not_before`."""
        self._not_before = 0.0
        self._same_cluster: tuple[str, str] | None = None
        """The address whose cluster is the broker's, and the name of the cluster."""
        self._problem = ""
        self._statistics: dict[str, QueueInfo] = {}
        self._statistics_at = -math.inf
        self.streams: frozenset[str] = frozenset()
        """The queues that are streams, by the last good answer."""

    def queues(self, connection: Connection, deadline: Deadline) -> dict[str, QueueInfo]:
        """Return the queues of an open connection's virtual host.  Raises ManagementUnavailable.

        Statistics, which are the larger part of the work on both sides, are requested where a
        queue has a number only there.
        """
        path = f"/api/queues/{_vhost(connection)}"
        infos = self._ask(f"{path}?{_PRESENT}", queue_infos, connection, deadline)
        now = time.monotonic()
        expired = now - self._statistics_at > _STATISTICS_FOR
        last = self._statistics
        if expired or any(requires_statistics(one, last.get(one.name)) for one in infos.values()):
            self._statistics = self._ask(f"{path}?{_STATISTICS}", queue_infos, connection, deadline)
            self._statistics_at = now
        for name in infos.keys() & self._statistics.keys():
            infos[name] = completed(infos[name], self._statistics[name])
        self.streams = frozenset(name for name, info in infos.items() if info.kind == "stream")
        return infos

    def nodes(self, connection: Connection, deadline: Deadline) -> list[NodeInfo]:
        """Return the nodes of the cluster.  Raises ManagementUnavailable."""
        return self._ask(f"/api/nodes?columns={_NODE_COLUMNS}", node_infos, connection, deadline)

    def declarations(self, connection: Connection, deadline: Deadline) -> dict[str, DeclaredQueue]:
        """Return the queues of the virtual host as they exist.  Raises ManagementUnavailable."""
        path = f"/api/queues/{_vhost(connection)}?columns={_DECLARATION_COLUMNS}"
        return self._ask(path, declared_queues, connection, deadline)

    def exchanges(self, connection: Connection, deadline: Deadline) -> dict[str, str]:
        """Return the types of the exchanges of the virtual host.  Raises ManagementUnavailable."""
        path = f"/api/exchanges/{_vhost(connection)}?columns=name,type"
        return self._ask(path, exchange_types, connection, deadline)

    def bindings(self, connection: Connection, deadline: Deadline) -> list[Binding]:
        """Return the bindings of the virtual host.  Raises ManagementUnavailable."""
        path = f"/api/bindings/{_vhost(connection)}?columns={_BINDING_COLUMNS}"
        return self._ask(path, bindings_in, connection, deadline)

    def dropped(self, connection: Connection, deadline: Deadline) -> int | None:
        """Return how many messages to the virtual host were dropped, as no queue was bound.

        None where the API does not report it.  Raises ManagementUnavailable.
        """
        name = connection.virtual_host or "/"  # its own page is for administrators only
        path = "/api/vhosts?columns=name,message_stats.drop_unroutable"
        return self._ask(path, lambda rows: dropped_messages(rows, name), connection, deadline)

    def _ask(
        self,
        path: str,
        parse: Callable[[Any], _T],
        connection: Connection,
        deadline: Deadline,
    ) -> _T:
        base = self._base or _default_address(connection)
        if base == self._skipped and time.monotonic() < self._not_before:
            raise ManagementUnavailable(self._problem)
        until = deadline.within(
            max(_SHORTEST_TIMEOUT, min(self._io_timeout, deadline.remaining / 2))
        )
        try:
            result = self._get_parsed(base, path, parse, connection, until)
        except ManagementUnavailable as unavailable:
            self._problem = str(unavailable)
            if base not in (self._base, self._responded_at):
                self._skipped, self._not_before = base, time.monotonic() + _RETRY_AFTER
            raise
        self._responded_at = base
        return result

    def _get_parsed(
        self,
        base: str,
        path: str,
        parse: Callable[[Any], _T],
        connection: Connection,
        until: Deadline,
    ) -> _T:
        user, password = self._user or (
            connection.userid or "guest",
            connection.password or "guest",
        )
        # urllib3 encodes as Latin-1, RabbitMQ decodes as UTF-8.
        headers = urllib3.make_headers(basic_auth=f"{user}:{password}".encode().decode("latin-1"))
        try:
            status, body = self._get(base + path, headers, until)
            if status != _OK:
                raise ManagementUnavailable(f"the management API returns status {status}")
            result = parse(json.loads(body))
            other = self._other_cluster(base, headers, connection, until)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ManagementUnavailable(
                f"the management API does not respond ({type(error).__name__})"
            ) from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ManagementUnavailable("the response is not one of a management API") from error
        if other:
            raise ManagementUnavailable(f"the management API belongs to another RabbitMQ, {other}")
        return result

    def _other_cluster(
        self, base: str, headers: dict[str, str], connection: Connection, deadline: Deadline
    ) -> str:
        """Return the name of the API's cluster when it is not the connection's, else an empty text.

        Of two brokers on one host only one can have the default port.
        """
        ours = py_amqp.amqp_cluster_name(connection.connection)
        if not ours or self._same_cluster == (base, ours):
            return ""
        status, body = self._get(f"{base}/api/cluster-name", headers, deadline)
        answer = json.loads(body) if status == _OK else None
        theirs = answer.get("name") if isinstance(answer, dict) else None
        if theirs == ours:
            self._same_cluster = base, ours
        return str(theirs) if theirs and theirs != ours else ""

    def _get(self, url: str, headers: dict[str, str], deadline: Deadline) -> tuple[int, bytes]:
        """Return status and body.  urllib3's timeout is per read; the deadline is for all."""
        seconds = deadline.remaining
        if not seconds:  # urllib3 rejects it as an argument
            raise urllib3.exceptions.TimeoutError
        answer = self._pool.request(
            "GET",
            url,
            headers=headers,
            timeout=urllib3.Timeout(total=seconds),
            preload_content=False,
        )
        body = bytearray()
        try:
            while piece := answer.read1(_PIECE, decode_content=False):
                body += piece
                if len(body) > _MAX_RESPONSE:
                    raise ManagementUnavailable(
                        f"the response of the management API has more than {_MAX_RESPONSE} bytes"
                    )
                if deadline.passed:
                    raise urllib3.exceptions.TimeoutError
        except BaseException:
            answer.close()
            raise
        answer.release_conn()
        return answer.status, bytes(body)


def _vhost(connection: Connection) -> str:
    return quote(connection.virtual_host or "/", safe="")


def _prefix(path: str) -> str:
    """Return the path before `/api`, which Flower's option `broker_api` includes."""
    return path.rstrip("/").removesuffix("/api").rstrip("/")


def _default_address(connection: Connection) -> str:
    tls = bool(connection.ssl) or connection.transport_cls == "amqps"
    host = connection.hostname or "localhost"
    return f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{_PORTS[tls]}"


def _tls(options: Any) -> dict[str, Any]:
    """Return the broker's TLS options as an HTTP client takes them."""
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
