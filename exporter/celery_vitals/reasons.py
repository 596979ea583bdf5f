"""Why a probe failed: the reason of an exception."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

import amqp.exceptions
import redis.exceptions
from kombu.exceptions import OperationalError

from celery_vitals.errors import ProbeError, Reason

# The first match decides; specific types come first.
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
    errno.EINVAL: Reason.CLOSED,  # a socket closed during its setup
}
# Messages of a server at a limit, whatever the type of the exception.
_LIMIT_MESSAGES: tuple[tuple[str, Reason], ...] = (
    ("max number of clients reached", Reason.UNAVAILABLE),
    ("connection limit (", Reason.UNAVAILABLE),
    ("user limit of (", Reason.UNAVAILABLE),
    ("queue limit in vhost", Reason.UNAVAILABLE),
    ("too many clients", Reason.UNAVAILABLE),
    ("too many connections", Reason.UNAVAILABLE),
    ("remaining connection slots", Reason.UNAVAILABLE),
)
# Messages of servers and drivers, in lower case, for errors without a specific type.
_MESSAGES: tuple[tuple[str, Reason], ...] = (
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
    ("an error occurred (50", Reason.UNAVAILABLE),  # an HTTP status instead of an error code of AWS
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
# Wrappers, which carry no reason themselves.
_WRAPPERS: tuple[tuple[type[BaseException], Reason], ...] = (
    (redis.exceptions.ConnectionError, Reason.CLOSED),
    (redis.exceptions.RedisError, Reason.UNAVAILABLE),
    (amqp.exceptions.ConnectionError, Reason.CLOSED),
    (amqp.exceptions.AMQPError, Reason.PROTOCOL),
    (OperationalError, Reason.UNAVAILABLE),
    (ConnectionError, Reason.CLOSED),
    (OSError, Reason.UNREACHABLE),
)


def reason_of(error: BaseException) -> Reason:
    """Classify `error` by type, errno or message, along the chain of its causes."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, ProbeError):
            return one.reason
    for one in reversed(chain):
        found = (
            _by_message(one, _LIMIT_MESSAGES)
            or _by_type(one, _TYPES)
            or _by_errno(one)
            or _by_message(one, _MESSAGES)
        )
        if found:
            return found
    for one in chain:
        found = _by_type(one, _WRAPPERS)
        if found:
            return found
    return Reason.INTERNAL


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or _wrapped(link) or link.__context__


def _wrapped(error: BaseException) -> BaseException | None:
    """Return the original of an error of botocore, which is re-raised without its context."""
    arguments = getattr(error, "kwargs", None)
    original = arguments.get("error") if isinstance(arguments, dict) else None
    return original if isinstance(original, BaseException) else None


def _by_type(
    error: BaseException, table: tuple[tuple[type[BaseException], Reason], ...]
) -> Reason | None:
    return next((reason for kind, reason in table if isinstance(error, kind)), None)


def _by_errno(error: BaseException) -> Reason | None:
    return _ERRNOS.get(getattr(error, "errno", None) or 0)


def _by_message(error: BaseException, table: tuple[tuple[str, Reason], ...]) -> Reason | None:
    if isinstance(error, (TypeError, ValueError, LookupError)):
        return None  # a defect of the program or its options, whatever the message
    text = str(error).lower()
    return next((reason for part, reason in table if part in text), None)
