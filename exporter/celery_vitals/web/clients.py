"""Which requests are of the same client, as far as connections show it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from itertools import count
from threading import Lock

Address = tuple[str, int]
"""Host and port of the client's side."""

_MAX_CLIENTS = 256


class Clients:
    """Identifies a client by its connection.

    Prometheus keeps its connection from one scrape to the next, and sends nothing else that
    distinguishes two servers.  Where a proxy or a timeout closes connections, a new one takes the
    place of the one of its host that has been closed and unused for the longest time.  Safe for
    several threads.
    """

    def __init__(self) -> None:
        self.open_connections: Callable[[], Collection[Address | None]] = tuple
        """Returns the connections that are open; none where the server does not report them."""
        self._clients: OrderedDict[Address, int] = OrderedDict()
        self._numbers = count()
        self._lock = Lock()

    def identify(self, connection: Address) -> int:
        """Return the number of the client that sends a request on this connection."""
        with self._lock:
            client = self._clients.pop(connection, None)
            if client is None:
                client = self._replaced(connection)
            self._clients[connection] = client
            if len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)
            return client

    def _replaced(self, connection: Address) -> int:
        opened = self.open_connections()
        for one in self._clients:
            if one[0] == connection[0] and one not in opened:
                return self._clients.pop(one)
        return next(self._numbers)
