"""Cleans up after a demo that was killed: a small process that outlives it.

Started as `python guard.py FOLDER`.  Reads lines: `+ID` a process group was started, `-ID` it is gone.  When its input
ends, which no way of dying can prevent, it kills the groups that are left and removes the folder.  It needs the
standard library only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path


def watch(lines: Iterable[str], folder: Path) -> None:
    """Follow `lines` to their end, then kill what is left and remove `folder`."""
    groups: set[int] = set()
    for line in lines:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(50):  # what was just killed may still be writing
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.stdin, Path(sys.argv[1]))
