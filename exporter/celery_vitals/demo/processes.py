"""The processes of the demo: started together, stopped together, and none outlives the demo."""

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

_PYTHON = (sys.executable, "-S", "-E")
"""Python for `reaper.py` and `pdeathsig.py`, which need the standard library only."""
STOP_TIMEOUT_S = 2.5
"""Seconds for which a process may handle SIGTERM before it is killed."""


class ProcessEndedError(Exception):
    """A process of the demo did not start or has ended; the message has the end of its log."""


class ChildProcess:
    """One running process in a session of its own: Ctrl-C in the terminal reaches only the demo."""

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
                [*_killed_with_parent(), *command], cwd=folder, env=env, start_new_session=True,
                stdin=subprocess.PIPE if text else subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
                pipe.write(text.encode())

    def check(self) -> None:
        """Raise `ProcessEndedError` when the process has ended."""
        code = self.process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
            raise ProcessEndedError(f"{self.name} {how}; end of its log:\n{self.log_tail()}")

    def log_tail(self, lines: int = 12) -> str:
        """Return the last lines of the process's output, indented."""
        tail = self._log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in tail) or "    (empty)"

    def send(self, number: int) -> None:
        """Send a signal to the process if it is running."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, deadline: Deadline) -> None:
        """Wait until `deadline`, then kill the process and its descendants."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(deadline.remaining)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Supervisor:
    """A temporary folder and the processes that run in it.

    Leaving the `with` block stops all of them and removes the folder.  If this process is killed,
    the reaper does the same; on Linux the kernel kills the child processes at once.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="celery-vitals-demo-"))
        (self.folder / "tmp").mkdir()
        self._children: list[ChildProcess] = []
        self._last: ChildProcess | None = None
        self._reaper = subprocess.Popen(
            [*_PYTHON, str(Path(__file__).with_name("reaper.py")), str(self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Supervisor:
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
            self._reaper.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        if self._reaper.stdin is None:
            raise RuntimeError("the reaper was started without a pipe")
        return self._reaper.stdin

    def start(
        self,
        name: str,
        command: Iterable[str],
        env: Mapping[str, str],
        text: str = "",
        stops_last: bool = False,
    ) -> ChildProcess:
        """Start a process that logs into the folder; `text` is its standard input."""
        try:
            child = ChildProcess(name, command, self.folder, env, text)
        except OSError as error:
            raise ProcessEndedError(f"cannot start {name}: {error}") from error
        self._children.append(child)
        if stops_last:
            self._last = child
        self._send_to_reaper(f"+{child.process.pid}\n")
        return child

    def check(self) -> None:
        """Raise `ProcessEndedError` when one of the processes has ended."""
        for child in self._children:
            child.check()

    def _stop(self) -> None:
        """Stop all processes; the broker last, so that the others can disconnect from it."""
        others = [child for child in self._children if child is not self._last]
        for group in (others, [self._last] if self._last else []):
            for child in group:
                child.send(signal.SIGTERM)
            deadline = Deadline.after(STOP_TIMEOUT_S)
            for child in group:
                child.end(deadline)
                self._send_to_reaper(f"-{child.process.pid}\n")

    def _send_to_reaper(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(line.encode())
            self._pipe.flush()


def _killed_with_parent() -> list[str]:
    """Return the command prefix with which, on Linux, the kernel kills a child of a dead parent."""
    if sys.platform != "linux":
        return []
    return [*_PYTHON, str(Path(__file__).with_name("pdeathsig.py")), str(os.getpid())]
