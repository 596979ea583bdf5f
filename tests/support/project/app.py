"""The Celery app.  Where it connects to comes from the environment:

PROJECT_BROKER_URL, PROJECT_RESULT_BACKEND, and PROJECT_CONF with other settings in JSON.  Its key
`broadcasts` has the arguments of broadcast queues, which are declared beside `celery`.
"""

from __future__ import annotations

import json
import os

from celery import Celery
from kombu import Queue
from kombu.common import Broadcast

app = Celery(
    "project",
    broker=os.environ.get("PROJECT_BROKER_URL", "redis://127.0.0.1:6379/0"),
    backend=os.environ.get("PROJECT_RESULT_BACKEND") or None,
    include=["project.tasks"],
)
app.conf.update(
    broker_connection_retry_on_startup=True,
    timezone="UTC",
)
conf = json.loads(os.environ.get("PROJECT_CONF", "{}"))
if broadcasts := conf.pop("broadcasts", None):
    conf["task_queues"] = [Queue("celery"), *(Broadcast(**given) for given in broadcasts)]
app.conf.update(conf)
