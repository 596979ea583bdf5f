"""The names of metrics, their types, labels and closed sets of label values, in `series.txt`.

Dashboards and alert rules of users depend on all of these.  A change shows in that file; `make
golden` rewrites it.  The sets are those of the code and of the golden files beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from celery_vitals.brokers.writability import RefusalReason
from celery_vitals.collectors.registry import COLLECTORS
from celery_vitals.errors import Reason
from celery_vitals.health.codes import TOTALS, Code
from celery_vitals.metrics.base import MetricDefinition
from celery_vitals.metrics.definitions import DEFINITIONS
from celery_vitals.queue_registry import EVIDENCE
from celery_vitals.workers.state import State

HERE = Path(__file__).parent
LIST = HERE / "series.txt"
CLOSED = ("collector", "mode", "source", "state", "subject", "type")
"""Labels whose values are a closed set."""
BY_CODE = {
    ("celery_probe_failures_total", "reason"): {reason.value for reason in Reason},
    ("celery_broker_unwritable_reason", "reason"): {reason.value for reason in RefusalReason},
    ("celery_queue_evidence_info", "evidence"): set(EVIDENCE),
    ("celery_health_status", "status"): {status.value for status in TOTALS},
    ("celery_health_finding", "code"): {code.value for code in Code},
    ("celery_worker_state", "state"): {state.value for state in State},
    ("celery_scrape_collector_success", "collector"): {collector.name for collector in COLLECTORS},
}


def golden_values() -> dict[tuple[str, str], set[str]]:
    """Return the values of labels in all golden files, by metric and label."""
    found: dict[tuple[str, str], set[str]] = {}
    for file in sorted(HERE.glob("*.prom")):
        for family in text_string_to_metric_families(file.read_text()):
            for sample in family.samples:
                for label, value in sample.labels.items():
                    found.setdefault((sample.name, label), set()).add(value)
    return found


def lines(definitions: tuple[MetricDefinition, ...] = DEFINITIONS) -> Iterator[str]:
    """Yield a line per metric: type, name, and labels with the values of closed sets."""
    golden = golden_values()
    for metric in definitions:
        labels = []
        for label in metric.labels:
            key = metric.name, label
            closed = label in CLOSED or key in BY_CODE
            values = golden.get(key, set()) | BY_CODE.get(key, set()) if closed else set()
            labels.append(f"{label}={'|'.join(sorted(values))}" if values else label)
        shown = f"{{{', '.join(labels)}}}" if labels else ""
        yield f"{metric.kind.value} {metric.name}{shown}"


def test_series_equal_the_committed_list() -> None:
    text = "\n".join(sorted(lines())) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        LIST.write_text(text)
    assert text == LIST.read_text()
