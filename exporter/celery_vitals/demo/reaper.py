"""Cleans up after a killed demo: a small process that outlives it.

Started as `python reaper.py FOLDER`.  It reads lines: `+ID` for a process group that was started,
`-ID` for one that has ended.  At the end of its input, which the kernel closes however the demo
ends, it kills the remaining groups and removes the folder.  It uses the standard library only.
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


def reap(lines: Iterable[str], folder: Path) -> None:
    """Read `lines` to their end, then kill the remaining groups and remove `folder`."""
    groups: set[int] = set()
    for line in lines:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(50):  # a process that was just killed may still be writing
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    reap(sys.stdin, Path(sys.argv[1]))
