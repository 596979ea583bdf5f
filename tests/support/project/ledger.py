"""Tasks that write their own log: one line at the start of an execution, one at its end.

LEDGER_FOLDER names the folder.  Each process appends to a file of its own with a single write, so
that its lines survive its SIGKILL.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Task

from .tasks import task

MAX_RETRIES = 2
_parent = os.getppid()


def _forked() -> None:
    """Record the worker process of a pool process, which may be gone later."""
    global _parent
    _parent = os.getppid()


os.register_at_fork(after_in_child=_forked)


def _write(request: Any, event: str) -> None:
    """Append a line to the log of this process."""
    line = {
        "event": event,
        "uuid": request.id,
        "attempt": request.retries,
        "worker": request.hostname,
        "pid": os.getpid(),
        "parent": _parent,
        "at": time.time(),
    }
    path = os.path.join(os.environ["LEDGER_FOLDER"], f"{os.getpid()}.log")  # noqa: PTH118
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, f"{json.dumps(line)}\n".encode())
    finally:
        os.close(file)


@contextmanager
def _logged(request: Any) -> Iterator[None]:
    _write(request, "start")
    try:
        yield
    finally:
        _write(request, "end")


@task("logged_early", bind=True)
def logged_early(self: Task, seconds: float = 0.05) -> None:
    """Be acknowledged at the start."""
    with _logged(self.request):
        time.sleep(seconds)


@task("logged_late", bind=True, acks_late=True)
def logged_late(self: Task, seconds: float = 0.05) -> None:
    """Be acknowledged at the end."""
    with _logged(self.request):
        time.sleep(seconds)


@task("logged_safe", bind=True, acks_late=True, reject_on_worker_lost=True)
def logged_safe(self: Task, seconds: float = 0.05) -> None:
    """Be acknowledged at the end, and be delivered again when its process dies."""
    with _logged(self.request):
        time.sleep(seconds)


@task("logged_retry", bind=True, max_retries=MAX_RETRIES)
def logged_retry(self: Task, retries: int = 1, countdown: float = 0.1) -> None:
    """Succeed after so many retries."""
    with _logged(self.request):
        if self.request.retries < retries:
            raise self.retry(countdown=countdown)
