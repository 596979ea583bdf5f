"""A connection that one probe keeps between its rounds, with what it has set up on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from celery_vitals.brokers.connection import BrokerClient, BrokerConnection
from celery_vitals.deadline import Deadline
from celery_vitals.errors import BlockedError, Reason, reason_of

_R = TypeVar("_R")

_STALE = frozenset(
    {Reason.CLOSED, Reason.TIMEOUT, Reason.REFUSED, Reason.PROTOCOL, Reason.UNREACHABLE}
)


def may_be_stale(error: Exception) -> bool:
    """Whether this error on a connection kept from an earlier round may only mean that the connection has died."""
    return reason_of(error) in _STALE


class SessionResource(Protocol):
    """What a probe sets up on a connection: a reply queue, scripts, a channel."""

    def close(self) -> None:
        """Remove from the broker what was set up there."""


_S = TypeVar("_S", bound=SessionResource)


class Session(Generic[_S]):
    """Opens a connection when one is needed, keeps it while it works, drops it when it fails.

    For one thread at a time.
    """

    def __init__(self, broker: BrokerClient, set_up: Callable[[BrokerConnection], _S]) -> None:
        self._broker = broker
        self._set_up = set_up
        self._held: tuple[BrokerConnection, _S] | None = None

    def use(self, deadline: Deadline, work: Callable[[_S], _R]) -> _R:
        """Do `work` on the session.

        A connection kept from an earlier round may have died meanwhile, which says nothing about the broker now: then
        once more on a new one.  Raises what the library raises.
        """
        if self._held is not None:
            try:
                return work(self._held[1])
            except BlockedError:
                raise
            except Exception as error:
                self._drop()
                if not may_be_stale(error) or deadline.passed:
                    raise
        session = self._open(deadline)
        try:
            return work(session)
        except BlockedError:
            raise
        except BaseException:
            self._drop()
            raise

    def close(self) -> None:
        """Close in good order; what goes wrong at that is of no consequence."""
        held, self._held = self._held, None
        if held is None:
            return
        connection, session = held
        try:
            session.close()
            connection.close()
        except Exception:  # noqa: BLE001 - the broker may be gone; the operating system closes what is left
            connection.abandon()
        finally:
            self._broker.closed(connection)

    def _open(self, deadline: Deadline) -> _S:
        connection = self._broker.connect(deadline)
        try:
            session = self._set_up(connection)
        except BaseException:
            self._broker.closed(connection)
            connection.abandon()
            raise
        self._held = connection, session
        return session

    def _drop(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._broker.closed(held[0])
            held[0].abandon()
