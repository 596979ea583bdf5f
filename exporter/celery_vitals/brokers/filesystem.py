"""The file system as a broker, for development."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from queue import Empty
from typing import Any

from kombu import Connection

from celery_vitals.brokers.base import (
    EventReceiver,
    EventSubscription,
    QueueReaderOptions,
    WritabilityReaders,
)
from celery_vitals.brokers.capabilities import Capabilities, observed, unobserved
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.brokers.generic.events import GenericReceiver
from celery_vitals.brokers.generic.kind import PolledKind
from celery_vitals.brokers.serialization import JSON, MAX_MESSAGE
from celery_vitals.brokers.writability import PublisherBlock, RefusalReason, Writability
from celery_vitals.deadline import Deadline
from celery_vitals.third_party import kombu_internals

_MAX_FILE = 2 * MAX_MESSAGE
"""Bytes: a message with its body in base64."""
_LEFT_OUT = {
    "body": "",
    "content-type": JSON,
    "content-encoding": "utf-8",
    "headers": {},
    "properties": {"delivery_tag": "", "delivery_info": {}},
}
"""In place of a message that is too large to be read."""


class FilesystemConnection(BrokerConnection):
    """A connection that leaves alone messages that are still being written.

    kombu's own would fail at them, and the message would be lost.
    """

    def __init__(self, kombu: Connection, block: PublisherBlock) -> None:
        super().__init__(kombu, block)
        kombu_internals.replace_receive(self.channel, _take_oldest)

    def round_trip(self) -> None:
        """Read the folder."""
        kombu_internals.queue_size(self.channel, "celery")


class FilesystemKind(PolledKind):
    """Files in a folder."""

    capabilities = Capabilities(
        "File system",
        ("filesystem",),
        up=observed("reading the folder"),
        writable=observed("the folder's permissions and the free space of its file system"),
        length=observed("counting the files"),
        unacked=unobserved("a message that has been received is no longer a file"),
        workers=observed("kombu's own consumer"),
        events=observed("kombu's own consumer"),
        tested=True,
    )
    driver_type = "filesystem"
    connection_class = FilesystemConnection

    def option_names(self) -> frozenset[str]:
        """Return the folders, and what becomes of received messages."""
        return frozenset(
            {
                "control_folder",
                "data_folder_in",
                "data_folder_out",
                "processed_folder",
                "store_processed",
            }
        )

    def writability_readers(
        self, options: QueueReaderOptions
    ) -> WritabilityReaders[BrokerConnection]:
        """Look at the folder."""
        return lambda connection: FolderReader(kombu_internals.message_folder(connection.channel))

    def event_receiver(
        self, connection: BrokerConnection, subscription: EventSubscription, deadline: Deadline
    ) -> EventReceiver:
        """Subscribe with a queue of its own: bindings can be listed, and orphans removed."""
        return GenericReceiver(
            connection, subscription.exchange, subscription.listener, shared_queue=False
        )


class FolderReader:
    """A `WritabilityReader` for a folder; as root, permissions do not apply."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, deadline: Deadline) -> Writability:
        """Check the file system, then the permissions."""
        system = os.statvfs(self._folder)
        if system.f_flag & os.ST_RDONLY:
            return Writability.refused(RefusalReason.READ_ONLY)
        if not system.f_bavail:
            return Writability.refused(RefusalReason.DISK)
        if not os.access(self._folder, os.W_OK | os.X_OK):
            return Writability.refused(RefusalReason.PERMISSION)
        return Writability(writable=True)

    def close(self) -> None:
        """Do nothing: nothing was set up."""


def _take_oldest(folder: Path, queue: str) -> Any:
    """Take the oldest message of a queue from its folder; raises Empty."""
    for path in sorted(folder.iterdir()):
        if path.name.partition(".")[2] != f"{queue}.msg":
            continue
        try:
            with path.open("rb") as file:
                # Fails while the producer, which locks it exclusively, is writing.
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                content = file.read(_MAX_FILE + 1)
            if content:
                path.unlink()
                return json.loads(content) if len(content) <= _MAX_FILE else _LEFT_OUT
        except (FileNotFoundError, BlockingIOError):
            continue
    raise Empty
