"""A spinner on a terminal while a command waits."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from celery_vitals.settings.terminal import moves_cursor

_FRAMES = "|/-\\"
_DELAY = 0.2
_EVERY = 0.1
_CLEAR = "\r\x1b[K"


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show `text` on standard error until the end of the block, if it is a terminal."""
    if not sys.stderr.isatty() or not moves_cursor():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_spin, args=(text, done), name="spinner", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _spin(text: str, done: threading.Event) -> None:
    # A command that is quick shows nothing.
    if done.wait(_DELAY):
        return
    for frame in itertools.cycle(_FRAMES):
        sys.stderr.write(f"{_CLEAR}{frame} {text}")
        sys.stderr.flush()
        if done.wait(_EVERY):
            break
    sys.stderr.write(_CLEAR)
    sys.stderr.flush()
