"""Cancels the consumer of the worker that includes this module: it replies, sends heartbeats and
starts no task.

The worker does not detect it and still lists its queues, as Celery 5.2 to 5.4 may do after a
reconnect to Redis.
"""

from __future__ import annotations

from typing import Any

from celery.signals import worker_ready


def stop_consuming(sender: Any, **_: Any) -> None:
    """Cancel the consumer behind its back."""
    sender.task_consumer.cancel()


worker_ready.connect(stop_consuming)
