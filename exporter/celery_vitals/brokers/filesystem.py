"""The file system as a broker, for development."""

from __future__ import annotations

import fcntl
import json
import threading
from pathlib import Path
from queue import Empty
from typing import Any

from kombu import Connection

from celery_vitals import third_party
from celery_vitals.brokers.base import BrokerConnection, EventReceiver, EventSubscription
from celery_vitals.brokers.capabilities import Capabilities, observed, unobserved
from celery_vitals.brokers.generic.events import GenericReceiver
from celery_vitals.brokers.generic.kind import PolledKind
from celery_vitals.deadline import Deadline


class FilesystemConnection(BrokerConnection):
    """A connection that leaves alone messages that are still being written.

    kombu's own would fail at them, and the message would be lost.
    """

    def __init__(self, kombu: Connection, blocked: threading.Event) -> None:
        super().__init__(kombu, blocked)
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
        length=observed("counting the files"),
        unacked=unobserved("a message that has been received is no longer a file"),
        workers=observed("kombu's own consumer"),
        events=observed("kombu's own consumer"),
        tested=True,
    )
    driver_type = "filesystem"
    connection_class = FilesystemConnection

    def event_receiver(
        self, connection: BrokerConnection, subscription: EventSubscription, deadline: Deadline
    ) -> EventReceiver:
        """Subscribe with a queue of its own: bindings can be listed, and orphans removed."""
        return GenericReceiver(
            connection, subscription.exchange, subscription.listener, shared_queue=False
        )


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
