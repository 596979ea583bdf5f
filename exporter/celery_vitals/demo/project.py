"""A small web shop on Celery: the sample project that `make demo` watches.

Plain Celery, without any part of the exporter.  Two workers run its tasks:

    celery -A celery_vitals.demo.project worker -n orders@demo -P prefork -c 3 -E -Q orders,payments
    celery -A celery_vitals.demo.project worker -n media@demo -P threads -c 4 -E -Q mail,media

and `celery -A celery_vitals.demo.project beat` sends them.  The queue `reports` has no consumers:
its messages stay there, and no component reports an error.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

from celery import Celery, Task
from kombu import Queue  # type: ignore[attr-defined, unused-ignore]

from celery_vitals.demo import filesystem_transport

BROKER = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
BACKEND = os.environ.get("CELERY_RESULT_BACKEND", BROKER)
FOLDER = os.environ.get("DEMO_FOLDER", ".")  # messages of the file system transport

TRANSPORT_OPTIONS: dict[str, dict[str, Any]] = {
    "redis": {
        # After this time an unacknowledged message is delivered again.  It must exceed the longest
        # task plus the longest retry delay, or tasks run twice.
        "visibility_timeout": 600,
        # Redis has no priorities: each step is a separate list, and 0 is consumed first.
        "priority_steps": [0, 3, 6, 9],
        "queue_order_strategy": "priority",
        # Detects a frozen server instead of waiting for it.
        "socket_connect_timeout": 5,
        "socket_timeout": 15,
        "socket_keepalive": True,
    },
    "filesystem": {
        # The same folder for both directions: every process sends and receives.
        "data_folder_in": f"{FOLDER}/messages",
        "data_folder_out": f"{FOLDER}/messages",
        "control_folder": f"{FOLDER}/control",
        "polling_interval": 0.1,
    },
}

QUEUES = [
    Queue(name, routing_key=name)  # type: ignore[no-untyped-call, unused-ignore]
    for name in ("orders", "payments", "mail", "media", "reports")
]

if BROKER.startswith("filesystem:"):
    filesystem_transport.register()

app = Celery("shop", broker=BROKER, backend=BACKEND)
app.conf.update(
    broker_transport_options=TRANSPORT_OPTIONS.get(BROKER.partition(":")[0], {}),
    broker_connection_retry_on_startup=True,
    result_expires=300,
    task_queues=QUEUES,
    task_default_queue="orders",
    task_routes={
        "shop.charge_card": {"queue": "payments"},
        "shop.send_mail": {"queue": "mail"},
        "shop.make_thumbnail": {"queue": "media"},
        "shop.render_video": {"queue": "media"},
        "shop.yearly_report": {"queue": "reports"},
        "celery.backend_cleanup": {"queue": "mail"},
    },
    task_send_sent_event=True,
    worker_send_task_events=True,
    worker_prefetch_multiplier=1,
    beat_schedule={
        "a visitor": {"task": "shop.visit", "schedule": 0.5},
        "the lunch rush": {"task": "shop.rush", "schedule": 15.0, "args": (80,)},
        "an upload": {"task": "shop.make_thumbnail", "schedule": 2.0},
        "a film": {"task": "shop.render_video", "schedule": 6.0},
        "the newsletter": {"task": "shop.send_mail", "schedule": 1.5},
        "the report without consumers": {"task": "shop.yearly_report", "schedule": 5.0},
        # Runs at 4 in the morning by default.  Only backends without expiry need it.
        "celery.backend_cleanup": {"task": "celery.backend_cleanup", "schedule": 60.0},
    },
)


class CardGatewayError(Exception):
    """The payment provider did not reply."""


class BadAddressError(Exception):
    """A mail address that does not exist."""


@app.task(name="shop.visit")  # type: ignore[untyped-decorator, unused-ignore]
def visit() -> None:
    """Send one order and its payment."""
    place_order.apply_async(priority=3)
    charge_card.delay()


@app.task(name="shop.rush", ignore_result=True)  # type: ignore[untyped-decorator, unused-ignore]
def rush(orders: int) -> None:
    """Send many orders, some express: the queue grows, then shrinks, express orders first."""
    for number in range(orders):
        place_order.apply_async(priority=(0, 3, 6, 9)[number % 4])


@app.task(name="shop.place_order")  # type: ignore[untyped-decorator, unused-ignore]
def place_order() -> int:
    """Succeed quickly."""
    time.sleep(random.uniform(0.1, 0.4))
    return random.randrange(1_000_000)


@app.task(  # type: ignore[untyped-decorator, unused-ignore]
    name="shop.charge_card", bind=True, max_retries=3, default_retry_delay=2
)
def charge_card(self: Task) -> str:
    """Retry: every third attempt gets no reply; after four attempts the task fails."""
    time.sleep(random.uniform(0.05, 0.2))
    if random.random() < 1 / 3:
        raise self.retry(exc=CardGatewayError("no answer"))
    return "paid"


@app.task(name="shop.send_mail")  # type: ignore[untyped-decorator, unused-ignore]
def send_mail() -> None:
    """Fail one time in five."""
    time.sleep(random.uniform(0.05, 0.3))
    if random.random() < 1 / 5:
        raise BadAddressError("no such mailbox")


@app.task(name="shop.make_thumbnail")  # type: ignore[untyped-decorator, unused-ignore]
def make_thumbnail() -> None:
    """Succeed after a second or two."""
    time.sleep(random.uniform(0.5, 2.0))


@app.task(name="shop.render_video", acks_late=True)  # type: ignore[untyped-decorator, unused-ignore]
def render_video() -> None:
    """Run long, with late acknowledgement: if the worker dies, another one runs the task again."""
    time.sleep(random.uniform(8.0, 14.0))


@app.task(name="shop.yearly_report")  # type: ignore[untyped-decorator, unused-ignore]
def yearly_report() -> None:
    """Never run: the task is routed to a queue without consumers."""
