"""Sending tasks from the test process without touching any Celery state that the exporter
shares."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from celery import Celery

from .base import Broker

if TYPE_CHECKING:
    from typing_extensions import Self


class Publisher:
    """Sends tasks of the sample project with its own app, which never becomes the current app."""

    def __init__(self, broker: Broker, conf: Mapping[str, Any] | None = None) -> None:
        self.app = Celery(
            "publisher", broker=broker.url, backend=broker.backend_url, set_as_current=False
        )
        self.app.conf.update(conf or {})
        self._connection = self.app.connection_for_write()
        self._producer = self.app.amqp.Producer(self._connection, auto_declare=False)

    def send(
        self, task: str, *args: Any, queue: str = "celery", count: int = 1, **options: Any
    ) -> list[str]:
        """Send `project.<task>` `count` times and return the ids.

        `options` are those of apply_async (priority, countdown, kwargs ...).  No result is stored
        unless `ignore_result=False` is given.
        """
        options.setdefault("ignore_result", True)
        return [self._send(task, args, queue=queue, **options).id for _ in range(count)]

    def run(self, task: str, *args: Any, timeout: float = 20.0, **options: Any) -> Any:
        """Send one and wait for its result; what it raised is raised here, and celery's
        TimeoutError."""
        result = self._send(task, args, **options)
        try:
            return result.get(timeout=timeout)
        finally:
            # A traceback may keep the result alive after its connections are closed.
            result.backend.remove_pending_result(result)
            result.backend = None

    def length(self, queue: str = "celery") -> int:
        """Return the length of a queue over all priorities; 0 when it does not exist."""
        with self._connection.channel() as channel:
            try:
                return int(channel.queue_declare(queue, passive=True).message_count)
            except self._connection.channel_errors:
                return 0

    def _send(self, task: str, args: tuple[Any, ...], queue: str = "celery", **options: Any) -> Any:
        return self.app.send_task(
            f"project.{task}", args, queue=queue, producer=self._producer, **options
        )

    def close(self) -> None:
        """Close its connections."""
        backend = self.app.backend
        consumer: Any = getattr(backend, "result_consumer", None)
        if getattr(consumer, "_consumer", None) or getattr(consumer, "_pubsub", None):
            consumer.stop()
        if "client" in vars(backend):
            backend.client.close()
            backend.client.connection_pool.disconnect()
        self._connection.release()
        self.app.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def publish(
    broker: Broker, task: str, *args: Any, conf: Mapping[str, Any] | None = None, **options: Any
) -> list[str]:
    """Publisher.send in one call."""
    with Publisher(broker, conf) as publisher:
        return publisher.send(task, *args, **options)


def queues_conf(*names: str, **arguments: Any) -> dict[str, Any]:
    """Celery settings that declare queues with arguments, e.g. queues_conf("q",
    **{"x-max-priority": 10}).

    For `conf` of workers and publishers alike.
    """
    queues = {
        name: {"exchange": name, "routing_key": name, "queue_arguments": dict(arguments)}
        for name in names
    }
    return {"task_queues": queues}
