"""A small web shop on Celery: the sample project that `make demo` watches.

Plain Celery, nothing of the exporter in it.  Two workers serve it:

    celery -A celery_vitals.demo.project worker -n orders@demo -P prefork -c 3 -E -Q orders,payments
    celery -A celery_vitals.demo.project worker -n media@demo -P threads -c 4 -E -Q mail,media

and `celery -A celery_vitals.demo.project beat` makes the traffic.  Nobody serves the queue `reports`: what is sent
there stays there, without an error anywhere.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

from celery import Celery, Task
from kombu import Queue  # type: ignore[attr-defined, unused-ignore]

from celery_vitals.demo import files

BROKER = os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0")
BACKEND = os.environ.get("CELERY_RESULT_BACKEND", BROKER)
FOLDER = os.environ.get("DEMO_FOLDER", ".")  # where the file system transport keeps its messages

TRANSPORT_OPTIONS: dict[str, dict[str, Any]] = {
    "redis": {
        # A message that is not acknowledged in this time is given to another worker.  It must be longer than the
        # longest task and the longest retry delay together, or tasks run twice.
        "visibility_timeout": 600,
        # Redis has no priorities: each step is a list of its own, and 0 is served first.
        "priority_steps": [0, 3, 6, 9],
        "queue_order_strategy": "priority",
        # A frozen server is noticed instead of waited for.
        "socket_connect_timeout": 5,
        "socket_timeout": 15,
        "socket_keepalive": True,
    },
    "filesystem": {
        # In and out are the same folder: whoever sends also finds what others sent.
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
    files.use()

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
        "the report that nobody makes": {"task": "shop.yearly_report", "schedule": 5.0},
        # Beat's own default is 4 in the morning.  Only backends that do not expire by themselves need it.
        "celery.backend_cleanup": {"task": "celery.backend_cleanup", "schedule": 60.0},
    },
)


class CardGatewayError(Exception):
    """The bank did not answer."""


class BadAddressError(Exception):
    """A mail address that nobody has."""


@app.task(name="shop.visit")  # type: ignore[untyped-decorator, unused-ignore]
def visit() -> None:
    """Someone buys something: an order, and its payment."""
    place_order.apply_async(priority=3)
    charge_card.delay()


@app.task(name="shop.rush", ignore_result=True)  # type: ignore[untyped-decorator, unused-ignore]
def rush(orders: int) -> None:
    """Everybody orders at once, some with an express fee: the queue grows, then shrinks, the express orders first."""
    for number in range(orders):
        place_order.apply_async(priority=(0, 3, 6, 9)[number % 4])


@app.task(name="shop.place_order")  # type: ignore[untyped-decorator, unused-ignore]
def place_order() -> int:
    """Succeeds, quickly."""
    time.sleep(random.uniform(0.1, 0.4))
    return random.randrange(1_000_000)


@app.task(  # type: ignore[untyped-decorator, unused-ignore]
    name="shop.charge_card", bind=True, max_retries=3, default_retry_delay=2
)
def charge_card(self: Task) -> str:
    """Retries: every third time the bank does not answer; after four attempts it is a failure."""
    time.sleep(random.uniform(0.05, 0.2))
    if random.random() < 1 / 3:
        raise self.retry(exc=CardGatewayError("no answer"))
    return "paid"


@app.task(name="shop.send_mail")  # type: ignore[untyped-decorator, unused-ignore]
def send_mail() -> None:
    """Fails, one time in five."""
    time.sleep(random.uniform(0.05, 0.3))
    if random.random() < 1 / 5:
        raise BadAddressError("no such mailbox")


@app.task(name="shop.make_thumbnail")  # type: ignore[untyped-decorator, unused-ignore]
def make_thumbnail() -> None:
    """Succeeds, after a second or two."""
    time.sleep(random.uniform(0.5, 2.0))


@app.task(name="shop.render_video", acks_late=True)  # type: ignore[untyped-decorator, unused-ignore]
def render_video() -> None:
    """Takes long.  Late acknowledgement: if the worker dies in the middle, another one starts it again."""
    time.sleep(random.uniform(8.0, 14.0))


@app.task(name="shop.yearly_report")  # type: ignore[untyped-decorator, unused-ignore]
def yearly_report() -> None:
    """Never runs: it is routed to a queue that no worker serves."""
