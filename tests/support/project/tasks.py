"""Its tasks: one for each thing that a task can do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from celery import Task, group, shared_task
from celery.exceptions import Ignore, Reject

F = TypeVar("F", bound=Callable[..., Any])


def task(name: str, **options: Any) -> Callable[[F], F]:
    """shared_task, with the project's prefix and a type."""
    decorate: Callable[[F], F] = shared_task(name=f"project.{name}", **options)
    return decorate


@task("add")
def add(x: float, y: float) -> float:
    """Succeed."""
    return x + y


@task("sleep")
def sleep(seconds: float = 1.0) -> float:
    """Take long without using the CPU."""
    time.sleep(seconds)
    return seconds


@task("busy")
def busy(seconds: float = 1.0) -> None:
    """Take long and let nothing else run."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@task("fail")
def fail(message: str = "boom", seconds: float = 0.0) -> NoReturn:
    """Fail, after so many seconds."""
    time.sleep(seconds)
    raise ValueError(message)


@task("odd_failure")
def odd_failure(kind: str) -> NoReturn:
    """Fail by one of the exceptions that do not look like one."""
    raise ODD_FAILURES[kind]("boom")


@task("bill")
def bill(customer: str = "", amount: int = 0) -> None:
    """Succeed, for a customer."""


@task("retry", bind=True, max_retries=2)
def retry(self: Task, countdown: float = 0.1) -> NoReturn:
    """Fail after two retries."""
    raise self.retry(exc=RuntimeError("again"), countdown=countdown)


@task("autoretry", autoretry_for=(RuntimeError,), retry_kwargs={"max_retries": 1, "countdown": 0})
def autoretry(succeed: bool = False) -> None:
    """Fail after one retry, which the arguments of the automatic retry permit."""
    if not succeed:
        raise RuntimeError("again")


@task("replace", bind=True)
def replace(self: Task, by: str = "bill", seconds: float = 0.0) -> NoReturn:
    """Be replaced by a task, a group or a chain, after so many seconds."""
    time.sleep(seconds)
    inner = self.app.signature("project.bill", ("x",), immutable=True)
    raise self.replace({"bill": inner, "group": group(inner, inner), "chain": inner | inner}[by])


@task("move", bind=True, max_retries=1)
def move(self: Task, queue: str, replaced: bool = False) -> None:
    """Succeed in another queue, after one retry; or be replaced there."""
    if not self.request.retries:
        raise self.retry(countdown=0, queue=queue)
    if replaced:
        raise self.replace(self.app.signature("project.bill", ("x",), immutable=True))


@task("reject", bind=True, acks_late=True)
def reject(self: Task) -> NoReturn:
    """Be rejected, for good."""
    raise Reject("no", requeue=False)


@task("ignore", bind=True)
def ignore(self: Task) -> NoReturn:
    """Leave no result."""
    raise Ignore


@task("late", acks_late=True)
def late(seconds: float = 1.0) -> None:
    """Take long and be acknowledged at the end only."""
    time.sleep(seconds)


@task("limited", rate_limit="1/s")
def limited() -> None:
    """Run once a second at most."""


@task("time_limit", time_limit=1)
def time_limit(seconds: float = 30.0) -> None:
    """Run into the hard time limit (prefork only)."""
    time.sleep(seconds)


@task("die")
def die(code: int = 9) -> NoReturn:
    """Take the process down that runs it."""
    os._exit(code)


@task("parent", bind=True)
def parent(self: Task) -> str:
    """Send another task."""
    return str(self.app.send_task("project.add", (1, 2)).id)


class Unreadable(Exception):
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Silent(Exception):
    """Shows nothing."""

    def __repr__(self) -> str:
        return ""


class Rpc(Exception):
    """Shows itself over several lines, some of them indented, the last one not (as gRPC's does)."""

    def __str__(self) -> str:
        return "<Call that ended with:\n\tstatus = UNAVAILABLE\n>"

    __repr__ = __str__


class Invalid(ValueError):
    """Shows itself over several lines, the last one indented (as pydantic's does)."""

    def __str__(self) -> str:
        return "1 error for Model\nfield\n  should be a number [type=int]\n    More at https://example.org/errors"

    __repr__ = __str__


class Call(Exception):
    """Shows itself as a call that is not its class."""

    def __repr__(self) -> str:
        return f"connect(host='db', port={id(self)})"


class Remote(Exception):
    """Shows the traceback in another process."""

    def __str__(self) -> str:
        header = "Traceback (most recent call last):"
        first = f'{header}\n  File "a.py", line 1, in f\n    f()\nKeyError: 1'
        context = "During handling of the above exception, another exception occurred:"
        return f"the server replied:\n{first}\n\n{context}\n\n{first}"

    __repr__ = __str__


ODD_FAILURES: dict[str, type[Exception]] = {
    one.__name__: one for one in (Unreadable, Silent, Rpc, Invalid, Call, Remote)
}
