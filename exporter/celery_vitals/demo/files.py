"""kombu's file system transport, with messages that appear whole.

kombu creates a message's file first and fills it then; a reader that comes in between finds it empty and dies of it.
Here the file is filled elsewhere and then moved to where the readers look.
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
    """A channel that publishes by moving; the folder for temporary files must be on the same file system."""

    def _put(self, queue: str, payload: dict[str, Any], **_: Any) -> None:
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        filling = Path(tempfile.gettempdir(), name)
        filling.write_text(dumps(payload))
        filling.replace(Path(self.data_folder_out, name))


class Capabilities(filesystem.Capabilities):  # type: ignore[misc, unused-ignore]
    """The transport of that channel."""

    Channel = Channel


def use() -> None:
    """From now on `filesystem://` in this process means this transport."""
    TRANSPORT_ALIASES["filesystem"] = f"{__name__}:Transport"
