"""A response of `/metrics`, parsed: the one class through which tests read metrics."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import urllib3
from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Scrape:
    """One response of `/metrics`."""

    status: int
    text: str
    seconds: float
    content_type: str = ""

    def series(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the values of a metric by their labels."""
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of one series; None when it is absent."""
        return self.series(name).get(tuple(sorted(labels.items())))

    def by(self, label: str, name: str) -> dict[str, float]:
        """Return the values of a metric by one of its labels."""
        return {dict(labels)[label]: value for labels, value in self.series(name).items()}

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series with at least these labels; 0 without any."""
        return sum(
            value
            for found, value in self.series(name).items()
            if labels.items() <= dict(found).items()
        )

    def total_by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """Return the same sum for each value of one label, without sums that are 0."""
        sums: dict[str, float] = {}
        for found, value in self.series(name).items():
            if labels.items() <= dict(found).items() and value:
                key = dict(found)[label]
                sums[key] = sums.get(key, 0) + value
        return sums


def scrape_url(url: str, timeout: float | None = None, **query: Any) -> Scrape:
    """Scrape as Prometheus does; `timeout` is the value of its header, in seconds."""
    headers = {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)} if timeout is not None else {}
    fields = {f"{name}[]": value for name, value in query.items()}
    started = time.monotonic()
    with urllib3.PoolManager() as pool:
        answer = pool.request(
            "GET", url, headers=headers, fields=fields, timeout=30.0, retries=False
        )
        return Scrape(
            answer.status,
            answer.data.decode(),
            time.monotonic() - started,
            answer.headers.get("Content-Type", ""),
        )
