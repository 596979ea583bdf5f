"""The audit: rules on what will go wrong, from the configuration that really runs."""

from __future__ import annotations

from celery import Celery

from celery_vitals.audit.engine import check_codes, run
from celery_vitals.audit.evidence import Severity
from celery_vitals.audit.findings import AuditFinding, Report
from celery_vitals.audit.gather import gather
from celery_vitals.audit.of_status import of_status
from celery_vitals.brokers.target import Target
from celery_vitals.secrets import without_credentials

__all__ = ["AuditFinding", "Report", "Severity", "audit", "of_status"]


def audit(
    target: Target,
    app: Celery | None = None,
    name: str = "",
    ignored: tuple[str, ...] = (),
    timeout: float = 5.0,
) -> Report:
    """Audit a cluster: its app, its broker and its workers, as far as each is known.

    `name` is that of the app for `celery -A`.  Raises ConfigError for an unknown code.
    """
    check_codes(ignored)
    facts = gather(target, app, name, timeout)
    address = ";".join(map(without_credentials, target.broker_urls))
    return run(facts, ignored, f"{name} on {address}" if name else address)
