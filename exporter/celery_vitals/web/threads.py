"""Blocking work beside the event loop.

In daemon threads of our own: the pools of asyncio and anyio are joined when the interpreter exits, so one call that
hangs would hold up the stop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class NoThread(Exception):
    """The system gives no more threads; the work was not begun."""


async def in_thread(work: Callable[[], T], name: str) -> T:
    """What `work()` returns or raises, run in a new daemon thread called `name`.

    Cancelling the wait leaves the thread running.  Raises NoThread when there is none to be had.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the outcome is awaited
            outcome.set_exception(error)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:
        raise NoThread(str(error)) from error
    return await asyncio.wrap_future(outcome)
