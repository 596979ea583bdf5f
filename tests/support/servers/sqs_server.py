"""Amazon SQS, as moto answers for it."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .base import Broker, BrokerServer
from .child import Child
from .finding import HOST, free_port
from .http import request
from .process_reaper import process_reaper

REGION = "eu-central-1"
OPTIONS = {"region": REGION, "is_secure": False, "wait_time_seconds": 1, "polling_interval": 0.1}
"""Transport options of a worker and of the exporter."""
_KEY = re.compile(r"Credential=([^/]+)/")


class SqsServer(BrokerServer):
    """One account in one process.  It remembers what was asked of it, and with which key."""

    kind = "sqs"

    def __init__(self) -> None:
        port = free_port()
        folder = process_reaper().folder("sqs")
        self._recording = folder / "recording"
        environment = {
            **os.environ,
            "MOTO_ENABLE_RECORDING": "True",
            "MOTO_RECORDER_FILEPATH": str(self._recording),
        }
        argv = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
        super().__init__("sqs", port, Child("sqs", argv, environment, folder))

    @property
    def url(self) -> str:
        """For `broker_url` of workers."""
        return self.url_of("worker")

    def url_of(self, key: str) -> str:
        """For `broker_url`, with an access key of one's own."""
        return f"sqs://{key}:secret@{HOST}:{self.port}//"

    def ready(self) -> bool:
        """It answers."""
        return bool(request(f"http://{HOST}:{self.port}/moto-api/data.json"))

    def calls(self, key: str) -> Counter[str]:
        """How often each action was called with an access key."""
        lines = self._recording.read_text().splitlines() if self._recording.exists() else []
        headers = [
            {name.lower(): value for name, value in json.loads(line)["headers"].items()}
            for line in lines
        ]
        return Counter(
            one.get("x-amz-target", "?").rpartition(".")[2]
            for one in headers
            if (found := _KEY.search(one.get("authorization", ""))) and found[1] == key
        )

    def client(self, region: str = REGION) -> Any:
        """boto's client, for the test itself; close it."""
        import boto3

        session = boto3.Session(
            aws_access_key_id="test", aws_secret_access_key="secret", region_name=region
        )
        return session.client("sqs", endpoint_url=f"http://{HOST}:{self.port}")

    def require_credentials(self, wanted: bool) -> None:
        """Whether to refuse keys that no user of the account has, as Amazon does."""
        free = b"Infinity" if not wanted else b"0"
        request(f"http://{HOST}:{self.port}/moto-api/reset-auth", method="POST", data=free)

    @contextmanager
    def namespace(self) -> Iterator[Broker]:
        """The whole account, emptied afterwards."""
        yield Broker(self.kind, self.url, "", self)
        request(f"http://{HOST}:{self.port}/moto-api/reset", method="POST", data=b"")
