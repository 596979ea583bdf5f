"""The table of collectors.  A new one is a file of this package, and an entry of `COLLECTORS`.

Its name is also in `COLLECTOR_NAMES` of `settings`, which declares the switches.
"""

from __future__ import annotations

from typing import Any

from celery_vitals.collectors.backend import BackendCollector
from celery_vitals.collectors.base import BaseCollector, Dependencies
from celery_vitals.collectors.broker import BrokerCollector
from celery_vitals.collectors.queues import QueuesCollector
from celery_vitals.collectors.tasks import TasksCollector
from celery_vitals.collectors.workers import WorkersCollector

# Of two samples of one series the first counts: queues, read from the broker, come before tasks.
COLLECTORS: tuple[type[BaseCollector[Any]], ...] = (
    BrokerCollector,
    BackendCollector,
    WorkersCollector,
    QueuesCollector,
    TasksCollector,
)


def create_collectors(shared: Dependencies) -> dict[str, BaseCollector[Any]]:
    """Return the enabled collectors that the broker kind supports, in the order of the table."""
    created = {collector.name: collector.create(shared) for collector in COLLECTORS}
    return {
        name: collector
        for name, collector in created.items()
        if collector is not None and name in shared.settings.collectors
    }
