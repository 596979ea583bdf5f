"""Breaks the consumer of the worker that includes it: it answers and beats its heart, and takes no task.

Nothing tells the worker, which goes on to name its queues; as one of Celery 5.2 to 5.4 may after a reconnect to Redis.
"""

from __future__ import annotations

from typing import Any

from celery.signals import worker_ready


def stop_consuming(sender: Any, **_: Any) -> None:
    """Cancel the consumer behind its back."""
    sender.task_consumer.cancel()


worker_ready.connect(stop_consuming)
