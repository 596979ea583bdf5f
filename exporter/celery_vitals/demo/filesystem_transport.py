"""kombu's file system transport with atomic message files.

kombu creates a message's file empty and then writes to it; a reader that opens it in between finds
no message and fails.  This transport writes the file elsewhere and renames it into the folder of
the readers.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):  # type: ignore[misc, unused-ignore]
    """A channel that publishes by renaming; the folder for temporary files must be on the same file
    system."""

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        temporary = Path(tempfile.gettempdir(), name)
        temporary.write_text(dumps(payload))
        temporary.replace(Path(self.data_folder_out, name))


class Transport(filesystem.Transport):  # type: ignore[misc, unused-ignore]
    """The transport of that channel."""

    Channel = Channel


def register() -> None:
    """Use this transport for `filesystem://` in this process."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
