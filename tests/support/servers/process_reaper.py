"""A process that cleans up after the tests, however they end.

It holds the reading end of a pipe whose writing end only the test process has.  When the test
process ends, even by SIGKILL, the pipe closes; the reaper then kills every registered session and
removes the temporary folder.  A parent death signal does neither: it depends on the thread, does
not reach grandchildren, needs a preexec function (Python 3.12 warns about it in a program with
threads), and removes no files.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

import psutil

if TYPE_CHECKING:
    from .child import Child


def members(session: int) -> list[psutil.Process]:
    """Return the living processes of a session and their descendants, parents first."""
    found: dict[int, psutil.Process] = {}
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            if os.getsid(pid) == session:
                process = psutil.Process(pid)
                for one in (process, *process.children(recursive=True)):
                    if one.status() != psutil.STATUS_ZOMBIE:
                        found.setdefault(one.pid, one)
    return sorted(found.values(), key=lambda one: (one.pid != session, one.pid))


def kill_session(session: int) -> list[psutil.Process]:
    """SIGKILL to every process of a session; those that were hit."""
    hit = members(session)
    for process in hit:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    return hit


class ProcessReaper:
    """The handle of the reaper process, and the folder of all temporary files."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="celery-vitals-tests-"))
        self.root.chmod(0o755)  # containers read their configuration in it as another user
        self.children: WeakSet[Child] = WeakSet()
        """Every program that was set up, whether it runs or not."""
        self.sessions: set[int] = set()
        """Those that were started and not ended again."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(self.root)],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """The cleaning process itself, which is not a leak."""
        return self._process.pid

    def folder(self, name: str) -> Path:
        """A new empty folder that does not outlive the tests."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root))

    def watch(self, session: int) -> None:
        """Have a session killed when the test process ends."""
        self.sessions.add(session)
        self._send(f"+{session}")

    def forget(self, session: int) -> None:
        """The session is over; its number may be used again by others."""
        self.sessions.discard(session)
        self._send(f"-{session}")

    def _send(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is not None and not stdin.closed:
            stdin.write(line + "\n")
            stdin.flush()

    def close(self) -> None:
        """Clean up now."""
        atexit.unregister(self.close)
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._process.wait()


@cache
def process_reaper() -> ProcessReaper:
    """The one warden of this test process, started at first use."""
    return ProcessReaper()


def main(root: str) -> None:
    """Keep watch until the pipe ends, then clean up."""
    sessions: set[int] = set()
    for line in sys.stdin:
        change = sessions.add if line.startswith("+") else sessions.discard
        change(int(line[1:]))
    until = time.monotonic() + 10.0
    while sum(len(kill_session(session)) for session in sessions) and time.monotonic() < until:
        time.sleep(0.02)
    shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(sys.argv[1])
