"""A program that runs as a child of the tests, with everything it starts itself."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from .process_reaper import kill_session, members, process_reaper
from .waiting import wait_for


class Child:
    """One program in a session of its own, its output in a file.

    It can be started again after it has ended.
    """

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env)
        self.folder = folder
        self._log = folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        process_reaper().children.add(self)

    @property
    def pid(self) -> int:
        """The process id of the program; RuntimeError when it was not started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the program itself still runs (its own children aside)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What the program ended with; None while it runs or before it started."""
        return None if self._process is None else self._process.poll()

    @property
    def log(self) -> str:
        """Everything it has written so far, over all its starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """The program and everything it started that lives."""
        return [] if self._process is None else members(self._process.pid)

    def start(self) -> None:
        """Start it; returns at once."""
        if self.alive:
            return
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv,
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process_reaper().watch(self._process.pid)

    def send_signal(self, number: int) -> None:
        """A signal to the program itself."""
        with suppress(ProcessLookupError):
            if self._process is not None:
                self._process.send_signal(number)

    def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM, and SIGKILL to whatever is left after `timeout` seconds."""
        if self._process is None:
            return
        self.thaw()
        self.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the program and all it started; returns when they are gone."""
        if self._process is None:
            return
        session = self._process.pid
        wait_for(lambda: not kill_session(session), 10.0, what=f"{self.name} killed")
        self._process.wait()
        process_reaper().forget(session)

    def remove(self) -> None:
        """SIGKILL to all of it, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def freeze(self) -> None:
        """SIGSTOP to the program and all it started; returns when all stand still."""
        self._signal_all(signal.SIGSTOP)
        wait_for(self._stands_still, 5.0, what=f"{self.name} frozen")

    def thaw(self) -> None:
        """SIGCONT to all that freeze() stopped."""
        self._signal_all(signal.SIGCONT)

    def _stands_still(self) -> bool:
        return all(_has(one, psutil.STATUS_STOPPED) for one in self.processes())

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.send_signal(number)


def _has(process: psutil.Process, status: str) -> bool:
    """Whether a process has reached a state; one that is gone has reached any."""
    try:
        return bool(process.status() == status)
    except psutil.NoSuchProcess:
        return True
