"""The file system as a broker: kombu takes a message's file away while its sender is still writing it."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from queue import Empty
from typing import Any


def take_whole_messages(channel: Any) -> None:
    """Have a channel leave alone what is not written yet.  By itself it would fail at it, and the message be lost."""
    channel._get = lambda queue: _first(Path(channel.data_folder_in), f"{queue}.msg")


def _first(folder: Path, ending: str) -> Any:
    """The oldest message of a queue, taken from its folder; raises Empty."""
    for path in sorted(folder.iterdir()):
        if path.name.partition(".")[2] != ending:
            continue
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # its sender holds the other lock
                content = file.read()
            if content:
                path.unlink()
                return json.loads(content)
        except (FileNotFoundError, BlockingIOError):
            continue
    raise Empty
