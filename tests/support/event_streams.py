"""An event stream on a broker, a recorder of its events, and senders."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import trustme
from celery import Celery

from celery_vitals import Secret, Settings
from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.target import target_of
from celery_vitals.deadline import Deadline
from celery_vitals.events.stream import Stream
from tests.support.servers import HOST, Broker, wait_for

CANARY_EVERY, SILENT_AFTER = 0.3, 1.5


class Recorder:
    """A sink that keeps every event, or with `keep=False` counts the messages only."""

    def __init__(self, keep: bool = True) -> None:
        self.events: list[Any] = []
        self.messages = 0
        self.refused: Counter[str] = Counter()
        self.connects = self.idles = 0
        self.before_feeding: Callable[[], None] = lambda: None
        self._keep = keep

    def feed(self, bodies: Sequence[bytes], arrived: float) -> None:
        self.before_feeding()
        self.messages += len(bodies)
        if self._keep:
            for body in bodies:
                content = json.loads(body)
                self.events += content if isinstance(content, list) else [content]

    def rejected(self, reason: str, count: int = 1) -> None:
        self.refused[reason] += count

    def connected(self) -> None:
        self.connects += 1

    def idle(self) -> None:
        self.idles += 1

    def ids(self) -> set[str]:
        """The uuids of all events so far."""
        return {event["uuid"] for event in list(self.events) if "uuid" in event}


def cluster_of(
    url: str, app: Celery | None = None, io_timeout: float = 1.0, **settings: Any
) -> BrokerClient:
    """The cluster on a broker, with the settings of the exporter or of an app."""
    return BrokerClient(target_of(Settings(broker_url=Secret(url), **settings), app), io_timeout)


@contextmanager
def listening(cluster: BrokerClient, sink: Recorder, **options: Any) -> Iterator[Stream]:
    """A stream that is up."""
    stream = Stream(
        cluster, sink, **{"canary_every": CANARY_EVERY, "silence_timeout": SILENT_AFTER, **options}
    )
    stream.start()
    try:
        wait_for(lambda: stream.up, 10, what="stream up")
        yield stream
    finally:
        stream.stop(Deadline.after(5))
        assert not stream._thread.is_alive()
        assert cluster.connections == 0


@contextmanager
def sending(broker: Broker, **conf: Any) -> Iterator[Callable[..., str]]:
    """Sends an event as workers and producers do, and returns its uuid."""
    app = Celery("sender", broker=broker.url, set_as_current=False)
    app.conf.update(conf)
    with (
        app.connection_for_write() as connection,
        app.events.Dispatcher(
            connection, hostname="w@test", buffer_while_offline=False
        ) as dispatcher,
    ):

        def send(kind: str = "task-sent", **fields: Any) -> str:
            given = {"uuid": str(uuid.uuid4()), **fields}
            dispatcher.send(kind, **given)
            return str(given["uuid"])

        yield send
    app.close()


def wait_received(sink: Recorder, send: Callable[..., str], timeout: float = 10.0) -> None:
    """Send an event and wait until the stream receives it."""
    sent = send()
    wait_for(lambda: sent in sink.ids(), timeout, what="an event received")


class TlsFront:
    """Speaks TLS in front of a server that does not."""

    def __init__(self, port: int) -> None:
        ca = trustme.CA()
        self.ca_pem = ca.cert_pem.bytes()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert(HOST).configure_cert(self._context)
        self._server_port = port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._spawn(self._accept)

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=target, args=args, name="tls", daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self._spawn(self._serve, self._listener.accept()[0])

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError):
            client = self._context.wrap_socket(plain, server_side=True)
            server = socket.create_connection((HOST, self._server_port))
            self._sockets += [client, server]
            self._spawn(self._pump, client, server)
            self._pump(server, client)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> TlsFront:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        time.sleep(0.1)
        for one in self._sockets:
            one.close()
