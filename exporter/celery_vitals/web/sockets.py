"""Listening sockets for --web.listen-address."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery_vitals.errors import ConfigError

if TYPE_CHECKING:
    from celery_vitals.settings import Address

_PROBLEMS = {
    errno.EADDRINUSE: "already in use",
    errno.EADDRNOTAVAIL: "not an address of this machine",
    errno.EACCES: "permission denied",
}
# Errors of a machine without IPv6, or with IPv6 disabled.
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def bind_all(addresses: Sequence[Address]) -> list[socket.socket]:
    """Open a listening socket for each address.

    Raises ConfigError, and closes all of them, when one fails.
    """
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets.append(_bind(address))
            # Connections inherit it.  A response is sent in two parts, and the second must not wait
            # 40 ms for the acknowledgement of the first; asyncio sets this on its own sockets only.
            sockets[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def socket_address(sock: socket.socket) -> str:
    """Return the address that a socket listens on: `127.0.0.1:10818`, `[::]:10818`."""
    host, port, *_ = sock.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(address: Address) -> socket.socket:
    """Open a socket on `address`; the hosts "" and "::" mean every interface, IPv4 and IPv6."""
    try:
        if address.host in ("", "::"):
            return _bind_every(address)
        family, resolved = _resolved(address)
        return socket.create_server(resolved, family=family)
    except socket.gaierror:
        problem = "cannot resolve the host name"
    except OSError as error:
        problem = _PROBLEMS.get(error.errno or 0, f"cannot bind: {error.strerror}")
    raise ConfigError(f"--web.listen-address: {address}: {problem}")


def _bind_every(address: Address) -> socket.socket:
    wildcard, both = ("::", address.port), socket.has_dualstack_ipv6()
    try:
        return socket.create_server(wildcard, family=socket.AF_INET6, dualstack_ipv6=both)
    except OSError as error:
        if address.host or error.errno not in _NO_IPV6:
            raise
    return socket.create_server(("0.0.0.0", address.port))  # noqa: S104 - every interface


def _resolved(address: Address) -> tuple[int, Any]:
    """Return family and socket address; IPv4 first, as most clients resolve `localhost`."""
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, _, _, _, resolved = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, resolved
