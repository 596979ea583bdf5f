"""Executes a command that the kernel kills when its parent dies (Linux).

Started as `python pdeathsig.py PARENT COMMAND ARGUMENT...`; the same as `setpriv --pdeathsig`.  It
is a separate program because a process with threads must not run Python between fork and exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def execute(parent: int, command: list[str]) -> None:
    """Set SIGKILL as the parent-death signal, then replace this program with `command`."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the signal was set
        sys.exit(1)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    execute(int(sys.argv[1]), sys.argv[2:])
