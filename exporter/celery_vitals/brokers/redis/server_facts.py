"""What Redis reports about its own configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import redis.exceptions

from celery_vitals.brokers.redis.connection import RedisConnection
from celery_vitals.brokers.redis.permissions import refusal_of
from celery_vitals.brokers.redis.scripts import BYTES, HELD_TASKS, ScriptProblem, ServerScript
from celery_vitals.brokers.server_facts import HeldTask, ServerFacts
from celery_vitals.metrics.base import label_text
from celery_vitals.third_party import kombu_redis

_HELD = 200
"""Messages that are looked at for their ETA."""
_INFO = (
    "redis_version",
    "maxmemory",
    "maxmemory_policy",
    "used_memory",
    "total_system_memory",
    "evicted_keys",
    "connected_clients",
    "maxclients",
    "role",
    "aof_enabled",
    "rdb_last_bgsave_status",
    "aof_last_write_status",
    "aof_last_bgrewrite_status",
)
_CONFIG = ("save", "appendonly", "client-output-buffer-limit")


def read(connection: RedisConnection) -> ServerFacts:
    """Read INFO, CONFIG GET and a sample of held messages; each may be refused."""
    client = connection.redis()
    problems: dict[str, str] = {}
    pipe = client.pipeline(transaction=False)
    pipe.info("everything")
    for name in _CONFIG:
        pipe.config_get(name)
    info, *answers = pipe.execute(raise_on_error=False)
    if isinstance(info, redis.exceptions.ResponseError) and refusal_of(info) is None:
        info = client.info()
    if not isinstance(info, Mapping):
        problems["info"] = _problem(info, "INFO")
        info = None
    config: dict[str, str] = {}
    for answer in answers:
        if isinstance(answer, Mapping):
            config.update({_text(name): _text(value) for name, value in answer.items()})
        else:
            problems["config"] = _problem(answer, "CONFIG GET")
    held = _held(connection, client, problems)
    return ServerFacts(
        version=str(info.get("redis_version", "")) if info else "",
        info={name: info[name] for name in _INFO if name in info} if info else None,
        config=None if "config" in problems else config,
        held=held,
        problems=problems,
    )


def _held(
    connection: RedisConnection, client: Any, problems: dict[str, str]
) -> tuple[HeldTask, ...] | None:
    keys = kombu_redis.redis_keys(connection.channel)
    script = ServerScript(client, HELD_TASKS)
    flat = script.run([keys.unacked, keys.unacked_index], [_HELD, BYTES])
    if flat is None:
        problem = script.problem
        problems["held"] = (
            problem.value
            if isinstance(problem, ScriptProblem)
            else problem.clause
            if problem
            else "the script returned nothing"
        )
        return None
    return tuple(_pairs(flat))


def _pairs(flat: list[Any]) -> Iterator[HeldTask]:
    for task, eta in zip(flat[::2], flat[1::2], strict=False):
        yield HeldTask(label_text(_text(task)), _text(eta))


def _problem(answer: object, command: str) -> str:
    refusal = refusal_of(answer)
    return refusal.clause if refusal is not None else f"{command} is not available"


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
