"""Child processes with a folder of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import psutil
from typing_extensions import Self

HOST = "127.0.0.1"
_T = TypeVar("_T")


def free_port() -> int:
    """Return a TCP port without a listener."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], _T], timeout: float = 30.0, *, what: str) -> _T:
    """Return the first true value of `condition`; an exception in it counts as false."""
    until = time.monotonic() + timeout
    while True:
        with suppress(Exception):
            if value := condition():
                return value
        if time.monotonic() > until:
            raise RuntimeError(f"timeout of {timeout:g} s: {what}")
        time.sleep(0.02)


def environment() -> dict[str, str]:
    """Return the environment without the variables of Celery and of the exporter."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CELERY")}


class Process:
    """A child process; as a context manager it runs, and leaves nothing behind."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
        self._output = self.folder / "output.log"
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._popen.pid

    @property
    def log(self) -> str:
        """Its output so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def start(self) -> None:
        """Start it, without waiting until it is ready."""
        with self._output.open("ab") as output:
            self._popen = subprocess.Popen(
                self.argv,
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_ready(self, ready: Callable[[], object], timeout: float = 60.0) -> None:
        """Wait until it is ready; raise RuntimeError with its output if it is not or has exited."""
        try:
            wait_for(lambda: self._exited() or ready(), timeout, what=f"{self.name} ready")
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.log}") from error
        if self._exited():
            raise RuntimeError(f"{self.name} has exited:\n{self.log}")

    def _exited(self) -> bool:
        return self._popen is None or self._popen.poll() is not None

    def close(self) -> None:
        """Kill it with the processes it has started, and remove its folder."""
        if self._popen is not None:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(self._popen.pid)
                for one in (process, *process.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
            self._popen.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
