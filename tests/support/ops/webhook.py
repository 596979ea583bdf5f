"""A web server that receives the notifications of Alertmanager."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import Self

from tests.support.servers import HOST


@dataclass(frozen=True)
class Notification:
    """A notification, rendered by the example's template."""

    receiver: str
    title: str
    text: str

    @property
    def alert(self) -> str:
        """The name of the alert."""
        return self.title.split()[1]

    @property
    def resolved(self) -> bool:
        """Whether the alert is resolved."""
        return self.title.startswith("[RESOLVED]")


class Webhook:
    """Stores the notifications that are posted to it.  A context manager."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                [attachment] = body["attachments"]
                webhook.notifications.append(
                    Notification(self.path.strip("/"), attachment["title"], attachment["text"])
                )
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:
                """Disable logging."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    @property
    def url(self) -> str:
        """The base URL of the server."""
        return f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
