"""The tree of errors, and the closed set of reasons a probe can fail for.

    VitalsError
      ConfigError     a wrong setting: one line for a person, exit code 2
      ProbeError      a probe that knows exactly why it failed

Text of errors goes to the log and to the page, never into a label; a label carries a `Reason`.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from enum import Enum

import amqp.exceptions
import redis.exceptions
from kombu.exceptions import OperationalError


class VitalsError(Exception):
    """Base of all errors that this program raises."""


class ConfigError(VitalsError):
    """A setting that cannot work.  Its text is one line that names the setting."""


class Reason(str, Enum):
    """Why a probe failed: the values of the label `reason`."""

    AUTHENTICATION = "authentication"
    CLOSED = "closed"
    INTERNAL = "internal"
    NOT_FOUND = "not_found"
    PERMISSION = "permission"
    PROTOCOL = "protocol"
    REFUSED = "refused"
    RESOLVE = "resolve"
    STUCK = "stuck"
    TIMEOUT = "timeout"
    TLS = "tls"
    UNAVAILABLE = "unavailable"
    UNREACHABLE = "unreachable"

    @property
    def words(self) -> str:
        """The reason as a person would say it."""
        return _WORDS[self]


_WORDS = {
    Reason.AUTHENTICATION: "the user name or the password is wrong or missing",
    Reason.CLOSED: "the connection was closed by the other side (was it restarted, or does it want TLS?)",
    Reason.INTERNAL: "an error inside the exporter (see its log)",
    Reason.NOT_FOUND: "the virtual host, database or table does not exist, or this user may not enter it",
    Reason.PERMISSION: "this user lacks a permission (the log names it)",
    Reason.PROTOCOL: "the answer was not understood (is this the right port?)",
    Reason.REFUSED: "nothing listens on this address and port",
    Reason.RESOLVE: "the host name cannot be resolved",
    Reason.STUCK: "the attempt before this one still hangs",
    Reason.TIMEOUT: "no answer in time (does the server hang, or are port or TLS wrong?)",
    Reason.TLS: "the TLS handshake failed (is TLS on at both sides, and each certificate trusted?)",
    Reason.UNAVAILABLE: "it cannot serve now (the log says why)",
    Reason.UNREACHABLE: "the host cannot be reached",
}


class ProbeError(VitalsError):
    """A probe's failure whose reason is known where it is raised."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BlockedError(ProbeError):
    """The broker lives, but takes no messages now.  Its connection is good and is to be kept: the broker does not even
    read that it is closed."""


# The first row that fits decides; rows run from the particular to the general.
_TYPES: tuple[tuple[type[BaseException], Reason], ...] = (
    (socket.gaierror, Reason.RESOLVE),
    (ssl.SSLError, Reason.TLS),
    (redis.exceptions.NoPermissionError, Reason.PERMISSION),
    (redis.exceptions.AuthenticationError, Reason.AUTHENTICATION),
    (redis.exceptions.AuthenticationWrongNumberOfArgsError, Reason.AUTHENTICATION),
    (redis.exceptions.BusyLoadingError, Reason.UNAVAILABLE),
    (redis.exceptions.ReadOnlyError, Reason.UNAVAILABLE),
    (redis.exceptions.MaxConnectionsError, Reason.UNAVAILABLE),
    (redis.exceptions.InvalidResponse, Reason.PROTOCOL),
    (redis.exceptions.TimeoutError, Reason.TIMEOUT),
    (amqp.exceptions.NotAllowed, Reason.NOT_FOUND),
    (amqp.exceptions.NotFound, Reason.NOT_FOUND),
    (amqp.exceptions.ResourceLocked, Reason.PERMISSION),
    (amqp.exceptions.ResourceError, Reason.UNAVAILABLE),
    (amqp.exceptions.UnexpectedFrame, Reason.PROTOCOL),
    (amqp.exceptions.FrameSyntaxError, Reason.PROTOCOL),
    (TimeoutError, Reason.TIMEOUT),
    (ConnectionRefusedError, Reason.REFUSED),
    (ConnectionResetError, Reason.CLOSED),
    (BrokenPipeError, Reason.CLOSED),
    (EOFError, Reason.CLOSED),
    (PermissionError, Reason.PERMISSION),
    (FileNotFoundError, Reason.NOT_FOUND),
)
_ERRNOS = {
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.ENETUNREACH: Reason.UNREACHABLE,
    errno.EADDRNOTAVAIL: Reason.UNREACHABLE,
    errno.ETIMEDOUT: Reason.TIMEOUT,
    errno.ECONNREFUSED: Reason.REFUSED,
    errno.ECONNRESET: Reason.CLOSED,
    errno.EINVAL: Reason.CLOSED,  # a socket that was closed while it was set up
}
# A server that is full, whatever type its library makes of it.
_FULL: tuple[tuple[str, Reason], ...] = (
    ("max number of clients reached", Reason.UNAVAILABLE),
    ("connection limit (", Reason.UNAVAILABLE),
    ("user limit of (", Reason.UNAVAILABLE),
    ("queue limit in vhost", Reason.UNAVAILABLE),
    ("too many clients", Reason.UNAVAILABLE),
    ("too many connections", Reason.UNAVAILABLE),
    ("remaining connection slots", Reason.UNAVAILABLE),
)
# For what has no type of its own: the words of servers and drivers, lower case.
_WORDINGS: tuple[tuple[str, Reason], ...] = (
    ("noauth", Reason.AUTHENTICATION),
    ("wrongpass", Reason.AUTHENTICATION),
    ("invalid username-password", Reason.AUTHENTICATION),
    ("invalid password", Reason.AUTHENTICATION),
    ("password authentication failed", Reason.AUTHENTICATION),
    ("authentication mechanism", Reason.AUTHENTICATION),
    ("invalidclienttokenid", Reason.AUTHENTICATION),
    ("unrecognizedclient", Reason.AUTHENTICATION),
    ("signaturedoesnotmatch", Reason.AUTHENTICATION),
    ("expiredtoken", Reason.AUTHENTICATION),
    ("unable to locate credentials", Reason.AUTHENTICATION),
    ("(accessdenied", Reason.PERMISSION),
    ("throttl", Reason.UNAVAILABLE),
    ("(serviceunavailable)", Reason.UNAVAILABLE),
    ("(internalerror)", Reason.UNAVAILABLE),
    ("(internalfailure)", Reason.UNAVAILABLE),
    ("an error occurred (50", Reason.UNAVAILABLE),  # an HTTP status in place of a code of Amazon's
    ("noperm", Reason.PERMISSION),
    ("permission denied", Reason.PERMISSION),
    ("access_refused", Reason.PERMISSION),
    ("no such table", Reason.NOT_FOUND),
    ("does not exist", Reason.NOT_FOUND),
    ("db index is out of range", Reason.NOT_FOUND),
    ("no master found", Reason.UNAVAILABLE),
    ("the database system is", Reason.UNAVAILABLE),
    ("connection refused", Reason.REFUSED),
    ("could not translate host name", Reason.RESOLVE),
    ("timed out", Reason.TIMEOUT),
    ("timeout", Reason.TIMEOUT),
    ("connection closed by server", Reason.CLOSED),
    ("closed the connection", Reason.CLOSED),
    ("unexpectedly closed connection", Reason.CLOSED),
)
# Wrappers that say nothing by themselves.
_GENERAL: tuple[tuple[type[BaseException], Reason], ...] = (
    (redis.exceptions.ConnectionError, Reason.CLOSED),
    (redis.exceptions.RedisError, Reason.UNAVAILABLE),
    (amqp.exceptions.ConnectionError, Reason.CLOSED),
    (amqp.exceptions.AMQPError, Reason.PROTOCOL),
    (OperationalError, Reason.UNAVAILABLE),
    (ConnectionError, Reason.CLOSED),
    (OSError, Reason.UNREACHABLE),
)


def reason_of(error: BaseException) -> Reason:
    """Why `error` happened, from its type, its errno or its words, along the chain of its causes."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, ProbeError):
            return one.reason
    for one in reversed(chain):
        found = (
            _by_words(one, _FULL)
            or _by_type(one, _TYPES)
            or _by_errno(one)
            or _by_words(one, _WORDINGS)
        )
        if found:
            return found
    for one in chain:
        found = _by_type(one, _GENERAL)
        if found:
            return found
    return Reason.INTERNAL


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or _meant(link) or link.__context__


def _meant(error: BaseException) -> BaseException | None:
    """What an error of botocore stands for: raised again elsewhere, it has lost its context."""
    named = getattr(error, "kwargs", None)
    meant = named.get("error") if isinstance(named, dict) else None
    return meant if isinstance(meant, BaseException) else None


def _by_type(
    error: BaseException, table: tuple[tuple[type[BaseException], Reason], ...]
) -> Reason | None:
    return next((reason for kind, reason in table if isinstance(error, kind)), None)


def _by_errno(error: BaseException) -> Reason | None:
    return _ERRNOS.get(getattr(error, "errno", None) or 0)


def _by_words(error: BaseException, table: tuple[tuple[str, Reason], ...]) -> Reason | None:
    if isinstance(error, (TypeError, ValueError, LookupError)):
        return None  # a mistake in the program or its options, whatever words it quotes
    text = str(error).lower()
    return next((reason for words, reason in table if words in text), None)
