"""Scrapes the exporter as Prometheus does, and parses the response."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_S = 5.0
EXPECTED_WORKERS = 2
UNCONSUMED_QUEUE = "reports"
CELERY_LINE = re.compile(r"^(?:# (?:HELP|TYPE) )?celery_.*\n", re.MULTILINE)


class ScrapeError(Exception):
    """The exporter returned no exposition; the message has the reason."""


@dataclass(frozen=True)
class Scrape:
    """One response of `/metrics`: its text, its duration, and its samples by name and labels."""

    text: str
    seconds: float
    samples: Mapping[str, Mapping[frozenset[tuple[str, str]], float]] = field(repr=False)

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sample with exactly these labels; None if it is absent (unknown is not 0)."""
        return self.samples.get(name, {}).get(frozenset(labels.items()))

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return the samples of `name`, summed by the values of `label`."""
        sums: dict[str, float] = {}
        for labels, value in self.samples.get(name, {}).items():
            key = dict(labels).get(label, "")
            sums[key] = sums.get(key, 0.0) + value
        return sums

    def info(self, name: str, label: str) -> dict[str, dict[str, str]]:
        """Return the other labels of an info metric, by the values of `label`."""
        rows = (dict(labels) for labels in self.samples.get(name, {}))
        return {row.pop(label, ""): row for row in rows}

    @property
    def celery_text(self) -> str:
        """The exposition of only the `celery_` metrics, with HELP and TYPE."""
        return "".join(CELERY_LINE.findall(self.text))

    def missing(self) -> list[str]:
        """Return the unmet conditions of a complete scrape; empty when it is complete."""
        up = self.by("celery_worker_up", "worker")
        slots = self.by("celery_worker_pool_slots", "worker")
        workers = [name for name, value in up.items() if value == 1]
        accepted = sum(self.by("celery_worker_tasks_accepted_total", "worker").values())
        checks = {
            "celery_broker_up is not 1": self.value("celery_broker_up") == 1,
            "celery_result_backend_up is not 1": self.value("celery_result_backend_up") == 1,
            f"celery_worker_up is 1 for {len(workers)} workers (expected {EXPECTED_WORKERS})": (
                len(workers) == EXPECTED_WORKERS
            ),
            "celery_worker_pool_slots is missing for a worker": bool(workers)
            and all(slots.get(w) for w in workers),
            f'celery_queue_length{{queue="{UNCONSUMED_QUEUE}"}} is not above 0': (
                (self.value("celery_queue_length", queue=UNCONSUMED_QUEUE) or 0) > 0
            ),
            f'celery_queue_workers{{queue="{UNCONSUMED_QUEUE}"}} is not 0': (
                self.value("celery_queue_workers", queue=UNCONSUMED_QUEUE) == 0
            ),
            "celery_worker_tasks_accepted_total is not above 0": accepted > 0,
        }
        return [problem for problem, passed in checks.items() if not passed]


def parse(text: str, seconds: float) -> Scrape:
    """Parse an exposition in the text format.  Raises `ScrapeError` when it is malformed."""
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    except ValueError as error:
        raise ScrapeError(f"the response is no exposition: {error}") from error
    return Scrape(text, seconds, samples)


def fetch(port: int, timeout: float = TIMEOUT_S) -> Scrape:
    """Scrape `/metrics` on the loopback interface, ignoring proxy settings of the environment.

    Raises `ScrapeError` without a successful response within `timeout` seconds.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    started = time.monotonic()
    try:
        headers = {
            "X-Prometheus-Scrape-Timeout-Seconds": str(timeout),
            "Accept": "text/plain;version=0.0.4",
        }
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
    except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
        raise ScrapeError(f"no response: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ScrapeError(f"/metrics returned status {response.status}")
    return parse(text, time.monotonic() - started)
