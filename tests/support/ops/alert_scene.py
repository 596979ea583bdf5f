"""A running cluster with the exporter, Prometheus, Alertmanager and a receiver of notifications."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.support.exporter import Exporter
from tests.support.ops.rules import ALERTS
from tests.support.ops.short_rules import quick_alertmanager
from tests.support.ops.webhook import Notification, Webhook
from tests.support.servers import (
    HOST,
    AlertmanagerServer,
    Broker,
    PrometheusServer,
    Publisher,
    Worker,
    free_port,
    wait_for,
)

TEMPLATE = "celery-vitals.tmpl"
SETTLE = 60.0


@dataclass
class Scene:
    """The running cluster, exporter and monitoring."""

    broker: Broker
    workers: dict[str, Worker]
    exporter: Exporter
    prometheus: PrometheusServer
    webhook: Webhook
    read: int = field(default=0)
    """Number of notifications that have been read."""

    def unread(self) -> list[Notification]:
        """Return the notifications since the last call."""
        found = self.webhook.notifications[self.read :]
        self.read += len(found)
        return found

    def control(self, command: str, queue: str, worker: str) -> None:
        """Send a remote control command about a queue to a worker."""
        with (
            Publisher(self.broker) as publisher,
            publisher.app.connection_for_write() as connection,
        ):
            getattr(publisher.app.control, command)(
                queue, destination=[worker], connection=connection
            )

    def firing(self) -> set[str]:
        """Return the alerts that fire in Prometheus."""
        return {
            one["labels"]["alertname"]
            for one in self.prometheus.alerts()
            if one["state"] == "firing"
        }

    @contextmanager
    def one_notification(self, alert: str, severity: str) -> Iterator[Callable[[], Notification]]:
        """Expect exactly two notifications of a fault: firing and resolved.

        The block causes the fault, waits for the notification with the returned function, and
        removes the fault.
        """
        assert self.unread() == []
        receiver = {"critical": "on-call", "warning": "team"}[severity]

        def notification() -> Notification:
            wait_for(
                lambda: self.webhook.notifications[self.read :],
                SETTLE,
                what=f"a notification of {alert}",
            )
            return self.webhook.notifications[self.read]

        yield notification
        wait_for(lambda: not self.prometheus.alerts(), SETTLE, what=f"{alert} to resolve")
        wait_for(
            lambda: any(
                one.resolved and one.alert == alert
                for one in self.webhook.notifications[self.read :]
            ),
            SETTLE,
            what=f"the resolved notification of {alert}",
        )
        assert [(one.alert, one.receiver, one.resolved) for one in self.unread()] == [
            (alert, receiver, False),
            (alert, receiver, True),
        ]


@contextmanager
def running(
    broker: Broker,
    workers: Mapping[str, Worker],
    rules: Sequence[Mapping[str, Any]],
    *arguments: str,
) -> Iterator[Scene]:
    """Start the workers and everything that watches them; `arguments` are the exporter's."""
    with ExitStack() as stack:
        for worker in workers.values():
            stack.callback(worker.close)
            worker.launch()
        for worker in workers.values():
            worker.wait_ready()
        listen = f"{HOST}:{free_port()}"
        exporter = stack.enter_context(
            Exporter.of(broker, *arguments, "--web.listen-address", listen)
        )
        webhook = stack.enter_context(Webhook())
        template = (ALERTS / TEMPLATE).read_text()
        alertmanager = stack.enter_context(
            AlertmanagerServer(quick_alertmanager(webhook.url), {TEMPLATE: template})
        )
        prometheus = stack.enter_context(
            PrometheusServer([listen], rules=rules, alertmanagers=[f"{HOST}:{alertmanager.port}"])
        )
        wait_for(
            lambda: prometheus.query(f"count(celery_worker_consumed_queues) == {len(workers)}"),
            30,
            ignoring=(OSError,),
        )
        wait_for(lambda: not prometheus.alerts(), 30, what="no pending alert")
        yield Scene(broker, dict(workers), exporter, prometheus, webhook)
