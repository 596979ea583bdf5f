"""Health documents, as `/health` returns them."""

from __future__ import annotations

from typing import Any


def document(status: str = "healthy", **parts: Any) -> dict[str, Any]:
    """Return the document of a small cluster with the given parts."""
    return {
        "status": status,
        "time": "2026-01-02T03:04:05Z",
        "age_seconds": 0.2,
        "checks": {
            "broker": "healthy",
            "backend": "not_configured",
            "workers": "healthy",
            "queues": status,
            "tasks": "unknown",
            "events": "unknown",
        },
        "broker": {
            "status": "up",
            "transport": "redis",
            "address": "redis://broker:6379/0",
            "writable": True,
            "reason": None,
        },
        "backend": None,
        "events": None,
        "workers": {
            "count": 2,
            "up": 1,
            "minimum": 1,
            "names": ["a@one", "b@two"],
            "list": [worker("a@one"), worker("b@two", up=False, state="gone", pool=None)],
            "omitted": 0,
        },
        "queues": {
            "count": 2,
            "list": [queue("reports", 312), queue("celery", None)],
            "omitted": 0,
        },
        "findings": [],
        "recommendations": [],
        "unknown": [],
        **parts,
    }


def worker(name: str, **parts: Any) -> dict[str, Any]:
    """Return a worker of a document."""
    return {
        "name": name,
        "up": True,
        "state": "up",
        "pool": "prefork",
        "slots": 4,
        "queues": ["celery", "reports"],
        "last_seen": "2026-01-02T03:04:04Z",
        **parts,
    }


def queue(name: str, length: int | None, **parts: Any) -> dict[str, Any]:
    """Return a queue of a document."""
    return {
        "name": name,
        "length": length,
        "workers": 1,
        "consumers": None,
        "limit": 1000,
        "oldest_message": None,
        **parts,
    }


def finding(code: str = "queue_unserved", severity: str = "unhealthy", **parts: Any) -> Any:
    """Return a finding of a document."""
    return {
        "code": code,
        "severity": severity,
        "area": "queues",
        "subject": "reports",
        "message": "312 messages wait in queue reports, which has no consumers.",
        "evidence": {"length": 312},
        "since": "2026-01-02T03:00:00Z",
        "recommendation": "celery -A proj worker -Q reports",
        "runbook": "https://example.org/CeleryQueueUnserved.md",
        **parts,
    }
