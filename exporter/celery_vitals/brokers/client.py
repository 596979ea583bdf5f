"""Opens connections to the broker and counts them."""

from __future__ import annotations

import threading

from celery_vitals.brokers.base import QueueReaderOptions
from celery_vitals.brokers.connection import BrokerConnection, ConnectRequest
from celery_vitals.brokers.target import Target
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason

_SHORTEST_TIMEOUT = 0.1


class BrokerClient:
    """The broker of a `Target`."""

    def __init__(self, target: Target, io_timeout: float) -> None:
        self.target = target
        options = QueueReaderOptions(
            control_exchange=target.control_exchange,
            streams=target.streams,
            tls=target.broker_ssl,
            management_url=target.management_url,
            io_timeout=io_timeout,
        )
        self.queue_readers = target.kind.queue_readers(options)
        self.writability_reader = target.kind.writability_readers(options)
        self._io_timeout = io_timeout
        self._open: set[BrokerConnection] = set()
        self._lock = threading.Lock()
        self._preferred = 0
        self._named = True

    @property
    def connections(self) -> int:
        """How many connections to the broker are open."""
        with self._lock:
            return sum(connection.sockets for connection in self._open)

    def connect(self, deadline: Deadline, *, listening: bool = False) -> BrokerConnection:
        """Open a connection to the first address that responds, the last good one first.

        `listening` connections detect a silent broker by themselves.  Raises the library's error
        for the last address tried.
        """
        urls = self.target.broker_urls
        start, error = self._preferred, None
        for offset in range(len(urls)):
            if deadline.passed:
                break
            index = (start + offset) % len(urls)
            try:
                connection = self._connect(urls[index], deadline, listening)
            except Exception as failure:  # noqa: BLE001 - each library has its own; the caller classifies it
                error = failure
                continue
            self._preferred = index
            with self._lock:
                self._open.add(connection)
            return connection
        raise error or ProbeError(Reason.TIMEOUT, "no time left to connect")

    def closed(self, connection: BrokerConnection) -> None:
        """Stop counting a connection that has been closed."""
        with self._lock:
            self._open.discard(connection)

    def _connect(self, url: str, deadline: Deadline, listening: bool) -> BrokerConnection:
        """Connect with a client name; without it where this user may not set one."""
        named = self._named  # another thread may reset it meanwhile
        try:
            return self._connect_once(url, deadline, listening, named)
        except Exception as error:
            if not named or not self.target.kind.rejects_name(error):
                raise
        self._named = False
        return self._connect_once(url, deadline, listening, named=False)

    def _connect_once(
        self, url: str, deadline: Deadline, listening: bool, named: bool
    ) -> BrokerConnection:
        target = self.target
        request = ConnectRequest(
            tls=target.broker_ssl,
            options=target.broker_options,
            login_method=target.login_method,
            connect_timeout=max(_SHORTEST_TIMEOUT, min(self._io_timeout, deadline.remaining)),
            io_timeout=self._io_timeout,
            listening=listening,
            named=named,
        )
        connection: BrokerConnection = target.kind.connect(url, request)
        return connection
