"""Runs the demo as a separate process, with a terminal or without."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM = "import sys; from celery_vitals.demo import run; sys.exit(run({once}, broker={broker!r}))"


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until the condition is true; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def processes_in(folder: Path) -> dict[int, str]:
    """Return the command lines, by process id, of the processes that use the folder.

    A process uses it as its working directory, or names it in its command line or environment.
    """
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            traces = (
                command,
                (entry / "environ").read_bytes(),
                os.fsencode((entry / "cwd").readlink()),
            )
        except OSError:  # the process has ended, or is a zombie
            continue
        if any(os.fsencode(folder) in trace for trace in traces):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


class Demo:
    """A running demo with its temporary files in `folder`; `output` is the text of its terminal."""

    def __init__(
        self, folder: Path, broker: str | None = None, once: bool = False, term: str = "xterm"
    ) -> None:
        self.folder, self.output = folder, ""
        self._reader, writer = pty.openpty()
        env = {**os.environ, "TMPDIR": str(folder), "TERM": term, "COLUMNS": "140", "LINES": "50"}
        env["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        command = [sys.executable, "-c", PROGRAM.format(once=once, broker=broker)]
        # The child leads the session of this terminal, so that Ctrl-C and hanging up reach it.
        own_terminal = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
            " os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", own_terminal, *command], env=env, start_new_session=True,
            stdin=writer, stdout=writer, stderr=writer,
        )  # fmt: skip
        os.close(writer)

    def read_until(self, text: str, seconds: float = 60) -> None:
        """Read the output until it contains `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} is not in the output:\n{self.output}"
            assert self._read(), f"ended without {text!r} in the output:\n{self.output}"

    def press(self, key: bytes) -> None:
        """Type into the terminal."""
        os.write(self._reader, key)

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self._reader)
        self._reader = -1

    def end(self, seconds: float = 10) -> int:
        """Wait for the end of the demo and return its exit code; fail after the timeout."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running; output:\n{self.output}"
            if self._reader < 0 or not self._read():
                time.sleep(0.05)
        while self._reader >= 0 and self._read():
            pass
        return self.process.returncode

    def assert_nothing_left(self, seconds: float = 5) -> None:
        """Wait until no process and no file of the demo remains."""
        wait_for(
            lambda: not processes_in(self.folder), seconds, "all processes of the demo have ended"
        )
        wait_for(
            lambda: not list(self.folder.iterdir()), seconds, "all files of the demo are removed"
        )

    def close(self) -> None:
        """Kill the demo if it is running, and close its terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self._reader >= 0:
            self.hang_up()

    def _read(self) -> bool:
        """Read the available output after a short wait; return False at its end."""
        if not select.select([self._reader], [], [], 0.2)[0]:
            return True
        try:
            chunk = os.read(self._reader, 65536)
        except OSError:  # on Linux: no process has the terminal open
            return False
        self.output += chunk.decode(errors="replace")
        return bool(chunk)
