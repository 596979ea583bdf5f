"""Blocking calls outside the event loop.

They run in daemon threads: the pools of asyncio and anyio are joined at exit, so one call that
hangs would block the shutdown.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class NoThread(Exception):
    """The system cannot start another thread; the work was not started."""


async def in_thread(work: Callable[[], T], name: str) -> T:
    """Run `work()` in a new daemon thread called `name`, and return its result.

    Cancellation leaves the thread running.  Raises NoThread when no thread can be started.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the await
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise NoThread(str(error)) from error
    return await asyncio.wrap_future(outcome)
