"""The answers of RabbitMQ's management API: queues and nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_vitals.brokers.rabbitmq.dead_letters import DeadLetterRoute
from celery_vitals.brokers.server_facts import DeclaredQueue
from celery_vitals.queue_names import is_internal


@dataclass(frozen=True)
class QueueInfo:
    """The API's numbers of a queue, None where it has none yet.

    `ready` and `unacked` of classic queues are of this moment; all others, and those of RabbitMQ
    before 3.9, are from statistics: usually five seconds old at most, more under load.
    """

    name: str
    kind: str
    """classic, quorum or stream; or empty."""
    exclusive: bool
    auto_delete: bool
    ready: int | None
    unacked: int | None
    consumers: int | None
    head_at: int | None
    """The producer's timestamp (seconds) of the message at the head, which a worker may hold."""
    by_priority: bool
    """Whether a message of a higher priority comes to the head before an older one."""
    dead_letter_exchange: str | None = None
    """By an argument, else by a policy; those are only in statistics."""
    dead_letter_key: str | None = None

    @property
    def dead_letter_route(self) -> DeadLetterRoute | None:
        """Where its dead letters are sent; None where they are dropped."""
        if self.dead_letter_exchange is None:
            return None
        return DeadLetterRoute(self.dead_letter_exchange, self.dead_letter_key)


@dataclass(frozen=True)
class NodeInfo:
    """The API's numbers of a node: up to five seconds old, None where it has none yet."""

    memory_used: int | None
    memory_limit: int | None
    memory_alarm: bool | None
    disk_alarm: bool | None


def queue_infos(rows: Any) -> dict[str, QueueInfo]:
    """Return the queues by name.  Raises TypeError or KeyError for another answer."""
    if not isinstance(rows, list):
        raise TypeError("not a list of queues")
    return {info.name: info for info in map(_info, rows)}


def requires_statistics(info: QueueInfo, last: QueueInfo | None) -> bool:
    """Return whether a queue has no numbers yet, or a message at its head that no worker holds.

    `last` are its last statistics.  Producers send timestamps or none: where the head had none, the
    next statistics can wait.
    """
    if None in (info.ready, info.unacked):
        return True
    waits = bool(info.ready) and info.unacked == 0 and not info.by_priority
    if waits and last is not None and last.ready and last.head_at is None:
        waits = False
    return waits or info.kind == "stream" or (info.exclusive and not is_internal(info.name))


def completed(info: QueueInfo, statistics: QueueInfo) -> QueueInfo:
    """Return a queue with the numbers that only statistics have."""
    ready = statistics.ready if info.ready is None else info.ready
    unacked = statistics.unacked if info.unacked is None else info.unacked
    # The head's timestamp is of the time of the statistics; a worker may have held that message,
    # or hold it now.
    at_head = ready and unacked == 0 == statistics.unacked
    return replace(
        info,
        ready=ready,
        unacked=unacked,
        consumers=statistics.consumers,
        head_at=statistics.head_at if at_head else None,
        dead_letter_exchange=(
            info.dead_letter_exchange
            if info.dead_letter_exchange is not None
            else statistics.dead_letter_exchange
        ),
        dead_letter_key=(
            info.dead_letter_key if info.dead_letter_key is not None else statistics.dead_letter_key
        ),
    )


def declared_queues(rows: Any) -> dict[str, DeclaredQueue]:
    """Return the queues as they exist.  Raises TypeError or KeyError for another answer."""
    if not isinstance(rows, list):
        raise TypeError("not a list of queues")
    return {str(row["name"]): _declared(row) for row in rows}


def _declared(row: Mapping[str, Any]) -> DeclaredQueue:
    given = row.get("arguments"), row.get("effective_policy_definition")
    arguments, policy = (one if isinstance(one, Mapping) else {} for one in given)
    return DeclaredQueue(
        name=str(row["name"]),
        kind=str(row.get("type") or "classic"),
        durable=bool(row.get("durable")),
        arguments=arguments,
        policy=policy,
        messages=_number(row, "messages"),
        consumers=_number(row, "consumers"),
    )


def node_infos(rows: Any) -> list[NodeInfo]:
    """Return the nodes of a cluster.  Raises TypeError for another answer."""
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise TypeError("not a list of nodes")
    return [
        NodeInfo(
            memory_used=_number(row, "mem_used"),
            memory_limit=_number(row, "mem_limit"),
            memory_alarm=_flag(row, "mem_alarm"),
            disk_alarm=_flag(row, "disk_free_alarm"),
        )
        for row in rows
    ]


def dropped_messages(rows: Any, vhost: str) -> int | None:
    """Return the messages of a virtual host that no queue received, and no producer got back.

    Raises TypeError or KeyError for another answer.
    """
    for row in rows:
        if row["name"] == vhost and isinstance(row, Mapping):
            stats = row.get("message_stats")
            return _number(stats, "drop_unroutable") if isinstance(stats, Mapping) else None
    return None


def _flag(row: Mapping[str, Any], column: str) -> bool | None:
    value = row.get(column)
    return value if isinstance(value, bool) else None


def _number(row: Mapping[str, Any], column: str) -> int | None:
    value = row.get(column)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(arguments: Mapping[str, Any], policy: Mapping[str, Any], name: str) -> str | None:
    value = arguments.get(f"x-{name}", policy.get(name))
    return value if isinstance(value, str) else None


def _info(row: Mapping[str, Any]) -> QueueInfo:
    name = str(row["name"])
    given = row.get("arguments"), row.get("effective_policy_definition")
    arguments, policy = (one if isinstance(one, Mapping) else {} for one in given)
    return QueueInfo(
        name=name,
        kind=str(row.get("type") or ""),
        exclusive=bool(row.get("exclusive")),
        auto_delete=bool(row.get("auto_delete")),
        ready=_number(row, "messages_ready"),
        unacked=_number(row, "messages_unacknowledged"),
        consumers=_number(row, "consumers"),
        head_at=_number(row, "head_message_timestamp"),
        by_priority="x-max-priority" in arguments,
        dead_letter_exchange=_text(arguments, policy, "dead-letter-exchange"),
        dead_letter_key=_text(arguments, policy, "dead-letter-routing-key"),
    )
