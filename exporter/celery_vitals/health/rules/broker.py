"""The rules of the broker."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.health.codes import Code
from celery_vitals.health.findings import Finding
from celery_vitals.health.rules.base import Situation

_REMEDIES = {
    "memory": "Free memory of the broker or raise its limit (Redis: maxmemory; RabbitMQ:"
    " vm_memory_high_watermark).",
    "disk": "Free disk space of the broker.",
    "permission": "Grant this user the permission to write.",
    "read_only": "Set --broker-url to the primary, and not to a replica.",
    "persistence": "Repair the disk to which Redis saves its data (redis-cli INFO persistence).",
    "replicas": "Start the missing replicas, or lower min-replicas-to-write.",
}


def down(situation: Situation) -> Iterator[Finding]:
    """Yield that the broker does not respond."""
    broker = situation.status.collector("broker")
    if broker is None or broker.ok is not False:
        return
    address, refusal = situation.status.broker, situation.status.broker_state.reason
    yield situation.finding(
        Code.BROKER_DOWN,
        "",
        f"The broker {address} is down: {refusal.description if refusal else broker.reason}.",
        f"Start the broker, and check that {address} is reachable from the exporter and the"
        " workers.",
        {"address": address, "reason": broker.reason},
        broker.finished_at,
    )


def unwritable(situation: Situation) -> Iterator[Finding]:
    """Yield that the broker responds and accepts no messages."""
    state = situation.status.broker_state
    if state.writable is not False or situation.broker_down:
        return
    reason = state.reason
    why = f": {reason.description}" if reason else ""
    yield situation.finding(
        Code.BROKER_UNWRITABLE,
        "",
        f"The broker {situation.status.broker} accepts no messages{why}.",
        _REMEDIES.get(reason.value if reason else "", "Check the log of the broker."),
        {
            "reason": reason.value if reason else None,
            "memory_used_bytes": state.memory_used,
            "memory_limit_bytes": state.memory_limit,
        },
    )


def evicts(situation: Situation) -> Iterator[Finding]:
    """Yield that Redis deletes queues at its memory limit."""
    state = situation.status.broker_state
    if not state.eviction_policy.startswith("allkeys-") or state.memory_limit is None:
        return
    yield situation.finding(
        Code.BROKER_EVICTS,
        "",
        f"At its memory limit the broker deletes queues (maxmemory-policy"
        f" {state.eviction_policy}).",
        "redis-cli CONFIG SET maxmemory-policy noeviction",
        {"policy": state.eviction_policy, "memory_limit_bytes": state.memory_limit},
    )
