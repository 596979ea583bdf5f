"""The Celery app of the benchmarks' workers; its broker is in the environment."""

from __future__ import annotations

import os
from typing import NoReturn

from celery import Celery

app = Celery("bench", broker=os.environ.get("BENCH_BROKER_URL"))
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=True)


@app.task(name="bench.add")  # type: ignore[untyped-decorator]
def add(x: float, y: float) -> float:
    """Succeed."""
    return x + y


@app.task(name="bench.fail")  # type: ignore[untyped-decorator]
def fail() -> NoReturn:
    """Fail."""
    raise ValueError("boom")
