"""A reader of a durable queue of events, for a test to kill: `python -m
tests.support.durable_reader URL NAME FILE`.

Writes the uuid of every event into the file, slowly.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from celery_vitals.events.stream import Stream
from tests.support.event_streams import Recorder, cluster_of


class Slow(Recorder):
    """Takes its time, so that it is killed in the middle."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        super().feed(bodies, arrived)
        with self._path.open("a") as file:
            file.writelines(f"{event['uuid']}\n" for event in self.events)
        self.events.clear()
        time.sleep(0.05)


if __name__ == "__main__":
    url, name, path = sys.argv[1:]
    stream = Stream(cluster_of(url), Slow(Path(path)), durable_queue=name)
    stream.start()
    time.sleep(60)
