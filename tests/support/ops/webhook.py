"""What receives the notifications of Alertmanager: a web server of the tests' own."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import Self

from tests.support.servers import HOST


@dataclass(frozen=True)
class Message:
    """One notification, as the example's template words it."""

    receiver: str
    title: str
    text: str

    @property
    def alert(self) -> str:
        """The alert that it is about."""
        return self.title.split()[1]

    @property
    def resolved(self) -> bool:
        """Whether it says that it is over."""
        return self.title.startswith("[RESOLVED]")


class Webhook:
    """Keeps the messages that are posted to it.  Started as a context manager."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                [attachment] = body["attachments"]
                webhook.messages.append(
                    Message(self.path.strip("/"), attachment["title"], attachment["text"])
                )
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
