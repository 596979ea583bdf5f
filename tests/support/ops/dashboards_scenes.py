"""The states of a cluster that are photographed: how each comes about, and what the pictures have to say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from celery import Celery

from tests.support.ops.dashboards_shop import Shop

BOARDS = ("overview", "tasks", "queues", "workers", "exporter")


@dataclass(frozen=True)
class Scene:
    """One state."""

    name: str
    begin: Callable[[Shop], None]
    lasts: float
    """Seconds from its beginning to the picture: an incident needs time to be seen as one."""
    says: Mapping[str, Sequence[str]]
    """Words that have to stand in a panel of the overview, by its title."""
    boards: Sequence[str]
    light: Sequence[str] = ()
    """Those that are also drawn with dark letters on white."""

    @property
    def healthy(self) -> bool:
        """Nothing is wrong, so that no panel may miss anything."""
        return self.begin is healthy


def healthy(_: Shop) -> None:
    """Everything runs."""


def no_consumer(shop: Shop) -> None:
    """Reports are sent and nobody consumes their queue."""
    shop.traffic.unserved.set()


def not_consuming(shop: Shop) -> None:
    """One worker answers and consumes nothing."""
    with Celery(broker=shop.broker.url, set_as_current=False) as app:
        for queue in ("orders", "mail"):
            app.control.cancel_consumer(queue, destination=["web-2@shop"])


def broker_down(shop: Shop) -> None:
    """The broker stands still."""
    shop.traffic.pause()
    shop.broker.server.freeze()


def failing(shop: Shop) -> None:
    """One task fails."""
    shop.traffic.failing.set()


def _unhealthy(
    problem: Sequence[str], alert: str, **more: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    return {
        "Is it all right?": ("UNHEALTHY",),
        "What is wrong now": problem,
        "Firing alerts": (alert,),
        **more,
    }


SCENES = (
    Scene(
        "healthy",
        healthy,
        0,
        {
            "Is it all right?": ("HEALTHY",),
            "What is wrong now": ("Nothing is wrong",),
            "Firing alerts": ("None fires",),
        },
        BOARDS,
        light=("overview",),
    ),
    Scene(
        "no-consumer",
        no_consumer,
        60,
        _unhealthy(("reports", "no worker consumes the queue"), "CeleryQueueUnserved"),
        ("overview", "queues"),
    ),
    Scene(
        "not-consuming",
        not_consuming,
        90,
        _unhealthy(("web-2@shop", "consumes no queue"), "CeleryWorkerNotConsuming"),
        ("overview", "workers"),
    ),
    Scene(
        "broker-down",
        broker_down,
        45,
        _unhealthy(("broker does not answer",), "CeleryBrokerDown", Broker=("DOWN",)),
        ("overview",),
    ),
    Scene(
        "failing",
        failing,
        75,
        _unhealthy(("project.fail", "runs fail"), "CeleryTaskFailureRatio"),
        ("overview", "tasks"),
    ),
)
