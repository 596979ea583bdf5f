"""The audit of a running exporter: what its last probes show, without the network."""

from __future__ import annotations

from collections.abc import Mapping

from celery_vitals.audit.engine import run
from celery_vitals.audit.evidence import Source
from celery_vitals.audit.facts import BrokerFacts, Facts, WorkerFacts
from celery_vitals.audit.findings import AuditFinding
from celery_vitals.brokers.server_facts import ServerFacts
from celery_vitals.status import ClusterStatus

_UNKNOWN = "an exporter does not read it"


def of_status(status: ClusterStatus, now: float, app: str = "proj") -> tuple[AuditFinding, ...]:
    """Return the findings that the results of the last probes prove; `now` is Unix time.

    `app` is the name for `celery -A`.
    """
    return run(_facts(status, now, app)).findings


def _facts(status: ClusterStatus, now: float, app: str) -> Facts:
    info, workers = _info(status), tuple(_workers(status))
    known = {
        Source.RUNNING: status.tasks is not None and status.visibility_timeout is not None,
        Source.WORKERS: status.workers_known,
        Source.VERSIONS: any(one.celery for one in workers),
        Source.REDIS: bool(info),
    }
    return Facts(
        app=app,
        broker=BrokerFacts(
            kind=status.transport,
            address=status.broker,
            host="",
            visibility_timeout=status.visibility_timeout,
        ),
        server=ServerFacts(info=info),
        workers=workers,
        running=_running(status, now),
        gaps={source: _UNKNOWN for source in Source if not known.get(source)},
    )


def _info(status: ClusterStatus) -> dict[str, str | int | float]:
    """Return what INFO of a Redis with a memory limit contains."""
    state = status.broker_state
    if not state.eviction_policy or not state.memory_limit:
        return {}
    info: dict[str, str | int | float] = {
        "maxmemory_policy": state.eviction_policy,
        "maxmemory": state.memory_limit,
    }
    if state.memory_used is not None:
        info["used_memory"] = state.memory_used
    return info


def _workers(status: ClusterStatus) -> list[WorkerFacts]:
    return [
        WorkerFacts(
            name=one.name,
            pool=one.pool,
            slots=one.slots,
            prefetch=one.prefetch,
            celery=one.version,
            pids=frozenset(one.pids),
        )
        for one in status.workers
        if one.up
    ]


def _running(status: ClusterStatus, now: float) -> Mapping[str, float]:
    since = status.tasks.oldest_running if status.tasks is not None else {}
    return {task: now - since[task] for task in status.late_tasks if task in since}
