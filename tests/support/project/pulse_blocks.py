"""A command that blocks the loop of the worker that includes this module, and a scheduler whose
ticks a file blocks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler
from celery.worker.control import control_command

BLOCK = Path("block")
"""In the working directory of beat: blocks its ticks while it exists."""


@control_command(args=[("seconds", float)])  # type: ignore[untyped-decorator, unused-ignore]
def block(state: Any, seconds: float = 1.0) -> None:
    """Block the loop."""
    time.sleep(seconds)


class BlockedScheduler(PersistentScheduler):  # type: ignore[misc]
    """Waits in its tick for the file to be removed."""

    def tick(self, *args: Any, **kwargs: Any) -> Any:
        """Wait, and tick."""
        while BLOCK.exists():
            time.sleep(0.1)
        return super().tick(*args, **kwargs)
