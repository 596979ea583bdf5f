"""Redis as a broker: what its INFO and CONFIG GET return."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, counted
from celery_vitals.audit.findings import Problem, rule

_EVICTION_PAGE = (
    "https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html"
    "#key-eviction"
)
_PERSISTENCE_PAGE = "https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/"
_ADMIN_PAGE = "https://redis.io/docs/latest/operate/oss_and_stack/management/admin/"
_CLIENTS_PAGE = (
    "https://redis.io/docs/latest/develop/reference/clients/#maximum-concurrent-connected-clients"
)
_KEEPS = "noeviction"
_NEAR = 0.8
_FULL = 0.95
_MIB = 1 << 20


def _set(facts: Facts, name: str, value: object) -> str:
    _, _, server = (facts.broker.address if facts.broker else "").partition("://")
    host, _, port = server.partition("/")[0].rpartition(":")
    where = f"-h {host} -p {port} " if host and port.isdigit() else ""
    return f"redis-cli {where}CONFIG SET {name} {value}"


def _info(facts: Facts, *found: str) -> tuple[Evidence, ...]:
    info, address = facts.server.info or {}, facts.broker.address if facts.broker else ""
    return tuple(Evidence(name, str(info[name]), f"INFO of {address}") for name in found)


def _count(facts: Facts, name: str) -> float | None:
    value = (facts.server.info or {}).get(name)
    return value if isinstance(value, (int, float)) else None


@rule(
    "redis_evicts",
    Severity.ERROR,
    Source.REDIS,
    risk="When its memory is full, Redis deletes keys: whole queues with their tasks, the messages"
    " that workers hold, or results.",
    link=_EVICTION_PAGE,
)
def redis_evicts(facts: Facts) -> Iterator[Problem]:
    """The eviction policy of Redis is not noeviction."""
    info = facts.server.info or {}
    policy = info.get("maxmemory_policy")
    if isinstance(policy, str) and policy != _KEEPS:
        limited = bool(_count(facts, "maxmemory"))
        lightest = Severity.WARNING if policy.startswith("volatile") else None
        evicted = _count(facts, "evicted_keys")
        shown = ["maxmemory_policy", *(["evicted_keys"] if evicted else [])]
        yield Problem(
            "redis",
            f"the eviction policy is {policy}"
            + (f", {counted(int(evicted), 'key')} evicted so far" if evicted else "")
            + ("" if limited else " (maxmemory is not set)"),
            _set(facts, "maxmemory-policy", _KEEPS),
            _info(facts, *shown),
            lightest if limited else Severity.WARNING,
        )


@rule(
    "redis_memory_near_limit",
    Severity.WARNING,
    Source.REDIS,
    risk="At the limit Redis refuses every write: no task can be sent, and no result stored.",
    link=_ADMIN_PAGE,
)
def redis_memory_near_limit(facts: Facts) -> Iterator[Problem]:
    """Redis has used nearly all of its memory."""
    used, limit = _count(facts, "used_memory"), _count(facts, "maxmemory")
    if used and limit and used >= _NEAR * limit:
        yield Problem(
            "redis",
            f"{used / limit:.0%} of maxmemory are used",
            _set(facts, "maxmemory", f"{round(limit * 2 / _MIB)}mb"),
            _info(facts, "used_memory", "maxmemory"),
            Severity.ERROR if used >= _FULL * limit else None,
        )


@rule(
    "redis_memory_unlimited",
    Severity.INFO,
    Source.REDIS,
    risk="Redis grows until the kernel or the container kills it; without persistence, all tasks"
    " are lost then.",
    link=_ADMIN_PAGE,
)
def redis_memory_unlimited(facts: Facts) -> Iterator[Problem]:
    """Redis has no memory limit."""
    if _count(facts, "maxmemory") == 0:
        system = _count(facts, "total_system_memory")
        half = round(system / 2 / _MIB) if system else 1024
        yield Problem(
            "redis",
            "maxmemory is not set",
            _set(facts, "maxmemory", f"{half}mb"),
            _info(facts, "maxmemory"),
        )


@rule(
    "redis_not_persistent",
    Severity.WARNING,
    Source.REDIS,
    Source.REDIS_CONFIG,
    risk="A restart of Redis loses all waiting tasks, and those with an ETA.",
    link=_PERSISTENCE_PAGE,
)
def redis_not_persistent(facts: Facts) -> Iterator[Problem]:
    """Redis writes nothing to the disk."""
    config = facts.server.config or {}
    if config.get("save") == "" and config.get("appendonly") == "no":
        address = facts.broker.address if facts.broker else ""
        yield Problem(
            "redis",
            "neither snapshots nor the append-only file are on",
            _set(facts, "appendonly", "yes"),
            tuple(
                Evidence(name, config[name] or "(empty)", f"CONFIG GET of {address}")
                for name in ("save", "appendonly")
            ),
        )


@rule(
    "redis_snapshots_only",
    Severity.INFO,
    Source.REDIS_CONFIG,
    risk="A crash of Redis loses the tasks of the minutes since the last snapshot, and repeats"
    " those that were done since.",
    link=_PERSISTENCE_PAGE,
)
def redis_snapshots_only(facts: Facts) -> Iterator[Problem]:
    """Redis is persisted by snapshots only."""
    config = facts.server.config or {}
    if config.get("save") and config.get("appendonly") == "no":
        address = facts.broker.address if facts.broker else ""
        yield Problem(
            "redis",
            f"snapshots are written by the schedule {config['save']!r}, appendonly is off",
            _set(facts, "appendonly", "yes"),
            (Evidence("save", config["save"], f"CONFIG GET of {address}"),),
        )


@rule(
    "redis_saving_fails",
    Severity.ERROR,
    Source.REDIS,
    risk="The disk does not get the tasks, and Redis may refuse every write"
    " (stop-writes-on-bgsave-error).",
    link=_PERSISTENCE_PAGE,
)
def redis_saving_fails(facts: Facts) -> Iterator[Problem]:
    """The last attempt of Redis to save its data failed."""
    info = facts.server.info or {}
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
        if info.get(name, "ok") != "ok"
    ]
    if failed:
        yield Problem(
            "redis",
            f"{' and '.join(failed)}: {info[failed[0]]}",
            f"{_set(facts, '', '').partition('CONFIG')[0]}BGSAVE  # after a look at the disk and"
            " the log of Redis",
            _info(facts, *failed),
        )


@rule(
    "redis_is_replica",
    Severity.ERROR,
    Source.REDIS,
    risk="A replica is read-only: no task can be sent or consumed, except through Sentinel.",
    link="https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html",
)
def redis_is_replica(facts: Facts) -> Iterator[Problem]:
    """The URL of the broker is that of a replica."""
    if (facts.server.info or {}).get("role") == "slave":
        yield Problem(
            "broker_url",
            "Redis is a replica",
            facts.line("broker_url", "sentinel://SENTINEL-HOST:26379"),
            _info(facts, "role"),
        )


@rule(
    "redis_clients_near_limit",
    Severity.WARNING,
    Source.REDIS,
    risk="At the limit Redis refuses connections: workers cannot reconnect, and producers cannot"
    " send.",
    link=_CLIENTS_PAGE,
)
def redis_clients_near_limit(facts: Facts) -> Iterator[Problem]:
    """Redis has nearly as many clients as it accepts."""
    clients, limit = _count(facts, "connected_clients"), _count(facts, "maxclients")
    if clients and limit and clients >= _NEAR * limit:
        yield Problem(
            "redis",
            f"{clients:g} of {limit:g} clients are connected",
            _set(facts, "maxclients", int(limit * 2)),
            _info(facts, "connected_clients", "maxclients"),
        )


@rule(
    "redis_output_buffer_small",
    Severity.WARNING,
    Source.REDIS_CONFIG,
    risk="Redis disconnects a subscriber that reads slowly: workers lose commands, and monitoring"
    " loses events.",
    link=_CLIENTS_PAGE,
)
def redis_output_buffer_small(facts: Facts) -> Iterator[Problem]:
    """The output buffer for subscribers is smaller than Redis' default."""
    text = (facts.server.config or {}).get("client-output-buffer-limit", "")
    words = text.split()
    if "pubsub" in words:
        hard = words[words.index("pubsub") + 1]
        if hard.isdigit() and 0 < int(hard) < 32 * _MIB:
            address = facts.broker.address if facts.broker else ""
            yield Problem(
                "redis",
                f"the limit for subscribers is {int(hard) / _MIB:.3g} MiB",
                _set(facts, "client-output-buffer-limit", '"pubsub 32mb 8mb 60"'),
                (Evidence("client-output-buffer-limit", text, f"CONFIG GET of {address}"),),
            )
