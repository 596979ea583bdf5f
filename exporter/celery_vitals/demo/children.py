"""The processes of the demo: started together, stopped together, none outlives the one that started it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

from celery_vitals.deadline import Deadline

HELPER = (
    sys.executable,
    "-S",
    "-E",
)  # the two small programs beside this one need the standard library only
GRACE_S = 2.5
"""How long a child may take to stop by itself before it is killed."""


class ChildDiedError(Exception):
    """A process of the demo did not start or ended by itself; the message has the end of its log."""


class Child:
    """One running process in a session of its own: Ctrl-C in the terminal reaches the demo only."""

    def __init__(
        self,
        name: str,
        command: Iterable[str],
        folder: Path,
        env: Mapping[str, str],
        text: str = "",
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*_leash(), *command], cwd=folder, env=env, start_new_session=True,
                stdin=subprocess.PIPE if text else subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(text.encode())

    def check(self) -> None:
        """Raise `ChildDiedError` when the process has ended."""
        code = self.process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise ChildDiedError(f"{self.name} {how}; its last words:\n{self.log_tail()}")

    def log_tail(self, lines: int = 12) -> str:
        """The last lines that the process has written, indented."""
        tail = self._log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in tail) or "    (none)"

    def send(self, number: int) -> None:
        """Signal the process, if it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, deadline: Deadline) -> None:
        """Wait until `deadline`, then kill the process and what it has started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(deadline.remaining)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Household:
    """A folder and the processes that live in it.  Leaving the `with` block stops them all and removes it.

    Should this process be killed, the guard does the same; on Linux the kernel kills the children at once.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="celery-vitals-demo-"))
        (self.folder / "tmp").mkdir()
        self._children: list[Child] = []
        self._last: Child | None = None
        self._guard = subprocess.Popen(
            [*HELPER, str(Path(__file__).with_name("guard.py")), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Household:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._pipe.close()
            self._guard.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        if self._guard.stdin is None:
            raise RuntimeError("the guard was started without a pipe")
        return self._guard.stdin

    def start(
        self,
        name: str,
        command: Iterable[str],
        env: Mapping[str, str],
        text: str = "",
        stops_last: bool = False,
    ) -> Child:
        """Start a process that logs into the folder; `text` is its standard input."""
        try:
            child = Child(name, command, self.folder, env, text)
        except OSError as error:
            raise ChildDiedError(f"{name} cannot be started: {error}") from error
        self._children.append(child)
        if stops_last:
            self._last = child
        self._tell(f"+{child.process.pid}\n")
        return child

    def check(self) -> None:
        """Raise `ChildDiedError` when one of the processes has ended."""
        for child in self._children:
            child.check()

    def _stop(self) -> None:
        """The broker goes last: until then the others can say goodbye to it."""
        others = [child for child in self._children if child is not self._last]
        for group in (others, [self._last] if self._last else []):
            for child in group:
                child.send(signal.SIGTERM)
            deadline = Deadline.after(GRACE_S)
            for child in group:
                child.end(deadline)
                self._tell(f"-{child.process.pid}\n")

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(line.encode())
            self._pipe.flush()


def _leash() -> list[str]:
    """What goes before a command so that, on Linux, the kernel kills it when this process dies."""
    if sys.platform != "linux":
        return []
    return [*HELPER, str(Path(__file__).with_name("leash.py")), str(os.getpid())]
