"""The cluster states of the screenshots: how to cause each, and what the overview must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from celery import Celery

from tests.support.ops.example_cluster import Shop

DASHBOARDS = ("overview", "tasks", "queues", "workers", "exporter")


@dataclass(frozen=True)
class Scene:
    """A cluster state and its screenshots."""

    name: str
    start: Callable[[Shop], None]
    duration: float
    """Seconds from the start to the screenshot, for the metrics and alerts to show the incident."""
    expected: Mapping[str, Sequence[str]]
    """Texts that panels of the overview must show, by panel title."""
    dashboards: Sequence[str]
    light: Sequence[str] = ()
    """Dashboards that are also drawn in the light theme."""

    @property
    def healthy(self) -> bool:
        """Whether the cluster has no problem, so that every panel must have data."""
        return self.start is healthy


def healthy(_: Shop) -> None:
    """Leave the cluster as it is."""


def no_consumer(shop: Shop) -> None:
    """Send tasks to a queue without consumers."""
    shop.traffic.unserved.set()


def not_consuming(shop: Shop) -> None:
    """Cancel the consumer of a queue with only one worker."""
    with Celery(broker=shop.broker.url, set_as_current=False) as app:
        app.control.cancel_consumer("images", destination=["images@shop"])


def broker_down(shop: Shop) -> None:
    """Freeze the broker process."""
    shop.traffic.pause()
    shop.broker.server.freeze()


def failing(shop: Shop) -> None:
    """Make one task fail."""
    shop.traffic.failing.set()


def _unhealthy(
    problem: Sequence[str], alert: str, **more: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    return {
        "Health": ("UNHEALTHY",),
        "Active problems": problem,
        "Firing alerts": (alert,),
        **more,
    }


SCENES = (
    Scene(
        "healthy",
        healthy,
        0,
        {
            "Health": ("HEALTHY",),
            "Active problems": ("No active problems",),
            "Firing alerts": ("No firing alerts",),
        },
        DASHBOARDS,
        light=("overview",),
    ),
    Scene(
        "no-consumer",
        no_consumer,
        60,
        _unhealthy(("reports", "no consumers"), "CeleryQueueUnserved"),
        ("overview", "queues"),
    ),
    Scene(
        "not-consuming",
        not_consuming,
        90,
        _unhealthy(("images@shop", "consumes no queue"), "CeleryWorkerNotConsuming"),
        ("overview", "workers"),
    ),
    Scene(
        "broker-down",
        broker_down,
        45,
        _unhealthy(("broker is down",), "CeleryBrokerDown", Broker=("DOWN",)),
        ("overview",),
    ),
    Scene(
        "failing",
        failing,
        75,
        _unhealthy(
            ("project.fail", "failure ratio"), "CeleryTaskFailureRatio", Health=("DEGRADED",)
        ),
        ("overview", "tasks"),
    ),
)
