"""The table of collectors agrees with the switches and with the metric definitions."""

from __future__ import annotations

from celery_vitals.collectors.registry import COLLECTORS
from celery_vitals.metrics.definitions import GROUPS
from celery_vitals.settings.model import COLLECTOR_NAMES

NAMES = tuple(collector.name for collector in COLLECTORS)


def test_every_collector_has_a_switch() -> None:
    assert sorted(NAMES) == sorted(COLLECTOR_NAMES)


def test_every_collector_has_metrics() -> None:
    assert {group.collector for group in GROUPS} == {"exporter", *NAMES}
