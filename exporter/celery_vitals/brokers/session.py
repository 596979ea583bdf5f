"""A connection that is kept between rounds, with a resource on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from celery_vitals.brokers.client import BrokerClient
from celery_vitals.brokers.connection import BrokerConnection
from celery_vitals.deadline import Deadline
from celery_vitals.errors import BlockedError, Reason
from celery_vitals.reasons import reason_of

_STALE = frozenset(
    {Reason.CLOSED, Reason.TIMEOUT, Reason.REFUSED, Reason.PROTOCOL, Reason.UNREACHABLE}
)


def may_be_stale(error: Exception) -> bool:
    """Return whether this error on a kept connection may only mean that the connection is dead."""
    return reason_of(error) in _STALE


class SessionResource(Protocol):
    """A resource on a connection: a reply queue, scripts, a channel."""

    def close(self) -> None:
        """Remove the resource from the broker."""


_ResultT = TypeVar("_ResultT")
_ResourceT = TypeVar("_ResourceT", bound=SessionResource)


class Session(Generic[_ResourceT]):
    """Opens a connection when one is needed, keeps it while it works, drops it when it fails.

    For one thread at a time.
    """

    def __init__(
        self, broker: BrokerClient, set_up: Callable[[BrokerConnection], _ResourceT]
    ) -> None:
        self._broker = broker
        self._set_up = set_up
        self._kept: tuple[BrokerConnection, _ResourceT] | None = None

    def use(self, deadline: Deadline, work: Callable[[_ResourceT], _ResultT]) -> _ResultT:
        """Call `work` with the resource; return its result.

        A kept connection may have died since the last round: then `work` is called once more, on a
        new one.  Raises the library's error.
        """
        if self._kept is not None:
            try:
                return work(self._kept[1])
            except BlockedError:
                raise
            except Exception as error:
                self._drop()
                if not may_be_stale(error) or deadline.passed:
                    raise
        resource = self._open(deadline)
        try:
            return work(resource)
        except BlockedError:
            raise
        except BaseException:
            self._drop()
            raise

    def close(self) -> None:
        """Close in good order; errors are ignored."""
        kept, self._kept = self._kept, None
        if kept is None:
            return
        connection, resource = kept
        try:
            resource.close()
            connection.close()
        except Exception:  # noqa: BLE001 - the broker may be gone; the operating system closes the rest
            connection.abandon()
        finally:
            self._broker.closed(connection)

    def _open(self, deadline: Deadline) -> _ResourceT:
        connection = self._broker.connect(deadline)
        try:
            resource = self._set_up(connection)
        except BaseException:
            self._broker.closed(connection)
            connection.abandon()
            raise
        self._kept = connection, resource
        return resource

    def _drop(self) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            self._broker.closed(kept[0])
            kept[0].abandon()
