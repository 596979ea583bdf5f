"""The Celery app of the example: fast orders, and slow reports that fail occasionally."""

import os
import random
import time

from celery import Celery

app = Celery("shop", broker=os.environ["BROKER_URL"], backend=os.environ["RESULT_BACKEND"])
app.conf.update(
    task_routes={
        "shop.confirm_order": {"queue": "orders"},
        "shop.make_report": {"queue": "reports"},
    },
    task_send_sent_event=True,
    task_track_started=True,
    result_expires=3600,
    broker_connection_retry_on_startup=True,
    beat_schedule={
        "orders": {"task": "shop.confirm_order", "schedule": 2, "args": (1,)},
        "reports": {"task": "shop.make_report", "schedule": 5},
    },
)


@app.task(name="shop.confirm_order")
def confirm_order(number: int) -> str:
    """Confirm an order."""
    time.sleep(random.uniform(0.05, 0.3))
    return f"order {number} is confirmed"


@app.task(name="shop.make_report")
def make_report() -> int:
    """Make a report; one of ten fails."""
    time.sleep(random.uniform(1, 3))
    if random.random() < 0.1:
        raise ValueError("the numbers do not add up")
    return 42
