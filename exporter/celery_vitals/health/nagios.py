"""The health document as the output of a Nagios plugin: one line with performance data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from celery_vitals.health.text import printable

_STATES = {
    "healthy": "OK",
    "degraded": "WARNING",
    "unhealthy": "CRITICAL",
    "unknown": "UNKNOWN",
}


def nagios_line(document: Mapping[str, Any]) -> str:
    """Return the line, in the format of the Monitoring Plugins Development Guidelines.

    A value is absent from the performance data when it is unknown.
    """
    status = document["status"]
    findings = "; ".join(finding["message"] for finding in document["findings"])
    # A bar starts the performance data.
    text = printable(f"CELERY {_STATES[status]} - {findings or status}").replace("|", "/")
    values = " ".join(_performance_data(document))
    return f"{text} | {values}" if values else text


def _performance_data(document: Mapping[str, Any]) -> Iterator[str]:
    workers = document["workers"]
    if workers["up"] is not None:
        yield f"workers_up={workers['up']};;{workers['minimum']}:;0"
    for queue in document["queues"]["list"]:
        if queue["length"] is not None:
            limit = "" if queue["limit"] is None else queue["limit"]
            yield f"{_label('queue_' + queue['name'])}={queue['length']};{limit};;0"


def _label(name: str) -> str:
    """Return a label in quotes, without the characters that the format reserves."""
    return f"'{re.sub(r'''['=|]''', '_', printable(name))}'"
