"""The file system as a broker, for development."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from queue import Empty
from typing import Any

from kombu import Connection

from celery_vitals import third_party
from celery_vitals.brokers.base import (
    BrokerConnection,
    EventReceiver,
    EventSubscription,
    QueueReaderOptions,
    WritabilityReaders,
)
from celery_vitals.brokers.capabilities import Capabilities, observed, unobserved
from celery_vitals.brokers.generic.events import GenericReceiver
from celery_vitals.brokers.generic.kind import PolledKind
from celery_vitals.brokers.writability import PublisherBlock, RefusalReason, Writability
from celery_vitals.deadline import Deadline


class FilesystemConnection(BrokerConnection):
    """A connection that leaves alone messages that are still being written.

    kombu's own would fail at them, and the message would be lost.
    """

    def __init__(self, kombu: Connection, block: PublisherBlock) -> None:
        super().__init__(kombu, block)
        third_party.replace_receive(self.channel, _take_oldest)

    def round_trip(self) -> None:
        """Read the folder."""
        third_party.queue_size(self.channel, "celery")


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
        return lambda connection: FolderReader(third_party.message_folder(connection.channel))

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
                content = file.read()
            if content:
                path.unlink()
                return json.loads(content)
        except (FileNotFoundError, BlockingIOError):
            continue
    raise Empty
