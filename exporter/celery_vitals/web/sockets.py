"""Listening sockets for --web.listen-address."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery_vitals.errors import ConfigError

if TYPE_CHECKING:
    from celery_vitals.settings import Address

_WORDS = {
    errno.EADDRINUSE: "is already in use",
    errno.EADDRNOTAVAIL: "is not an address of this machine",
    errno.EACCES: "may not be used by this user",
}
# What a machine without IPv6, or with IPv6 turned off, answers.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def bind_all(addresses: Sequence[Address]) -> list[socket.socket]:
    """A listening socket for each address.  Raises ConfigError, with none left open, when one cannot be had."""
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets.append(_bind(address))
            # Connections inherit it.  An answer goes out in two parts, and the second one shall not wait 40 ms for the
            # client to acknowledge the first; asyncio sees to that for the sockets it makes itself only.
            sockets[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def shown(sock: socket.socket) -> str:
    """Where a socket really listens: `127.0.0.1:10818`, `[::]:10818`."""
    host, port, *_ = sock.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(address: Address) -> socket.socket:
    """A socket on `address`; on every interface, IPv4 and IPv6, when its host is "" or "::"."""
    try:
        if address.host in ("", "::"):
            return _bind_every(address)
        family, resolved = _resolved(address)
        return socket.create_server(resolved, family=family)
    except socket.gaierror:
        why = "cannot be resolved"
    except OSError as error:
        why = _WORDS.get(error.errno or 0, f"cannot be used: {error.strerror}")
    raise ConfigError(f"--web.listen-address: {address} {why}")


def _bind_every(address: Address) -> socket.socket:
    wildcard, both = ("::", address.port), socket.has_dualstack_ipv6()
    try:
        return socket.create_server(wildcard, family=socket.AF_INET6, dualstack_ipv6=both)
    except OSError as error:
        if address.host or error.errno not in _NO_IPV6:
            raise
    return socket.create_server(("0.0.0.0", address.port))  # noqa: S104 - the user asked for every interface


def _resolved(address: Address) -> tuple[int, Any]:
    """Family and socket address: the first of IPv4, else the first; what `localhost` means to most clients."""
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, resolved = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, resolved
