"""A session keeps its connection, replaces one that has died, and drops one that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_vitals.brokers.session import Session
from celery_vitals.deadline import Deadline
from celery_vitals.errors import BlockedError, ProbeError, Reason

BLOCKED = BlockedError(Reason.UNAVAILABLE, "a memory alarm")
DENIED = ProbeError(Reason.PERMISSION, "denied")


class FakeConnection:
    """A connection that records how it was closed."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def close(self) -> None:
        self.ended.append("closed")

    def abandon(self) -> None:
        self.ended.append("abandoned")


class FakeResource:
    """What a session sets up; `close` fails on demand."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def close(self) -> None:
        if self._error is not None:
            raise self._error


class FakeBroker:
    """Opens connections, and counts those that are open."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.open = 0

    def connect(self, deadline: Deadline) -> FakeConnection:
        self.connections.append(FakeConnection())
        self.open += 1
        return self.connections[-1]

    def closed(self, connection: FakeConnection) -> None:
        assert connection in self.connections
        self.open -= 1


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


def session_of(broker: Any, resource: FakeResource | None = None) -> Session[Any]:
    return Session(broker, lambda _: resource or FakeResource())


def failing(*errors: Exception | None) -> Callable[[Any], str]:
    """Work that raises these errors in turn, and succeeds after them."""
    left = list(errors)

    def work(_: Any) -> str:
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return "done"

    return work


def use(session: Session[Any], *errors: Exception, seconds: float = 5.0) -> str:
    return session.use(Deadline.after(seconds), failing(*errors))


def test_a_connection_that_works_is_used_again(broker: FakeBroker) -> None:
    session = session_of(broker)
    assert [use(session), use(session)] == ["done", "done"]
    assert (len(broker.connections), broker.open) == (1, 1)


@pytest.mark.parametrize("kept", [False, True])
def test_a_blocked_connection_is_kept(broker: FakeBroker, kept: bool) -> None:
    session = session_of(broker)
    if kept:
        use(session)
    with pytest.raises(BlockedError):
        use(session, BLOCKED)
    assert use(session) == "done"
    assert [connection.ended for connection in broker.connections] == [[]]
    assert broker.open == 1


def test_a_kept_connection_that_died_is_replaced_once(broker: FakeBroker) -> None:
    session = session_of(broker)
    use(session)
    assert use(session, EOFError()) == "done"
    with pytest.raises(EOFError):
        use(session, EOFError(), EOFError())
    assert [connection.ended for connection in broker.connections] == [["abandoned"]] * 3
    assert broker.open == 0


def test_a_new_connection_is_not_replaced(broker: FakeBroker) -> None:
    with pytest.raises(EOFError):
        use(session_of(broker), EOFError())
    assert [connection.ended for connection in broker.connections] == [["abandoned"]]


def test_an_error_that_is_not_of_the_connection_is_raised_at_once(broker: FakeBroker) -> None:
    session = session_of(broker)
    use(session)
    with pytest.raises(ProbeError, match="denied"):
        use(session, DENIED)
    assert (len(broker.connections), broker.open) == (1, 0)


def test_no_connection_is_opened_after_the_deadline(broker: FakeBroker) -> None:
    session = session_of(broker)
    use(session)
    with pytest.raises(EOFError):
        use(session, EOFError(), seconds=0.0)
    assert (len(broker.connections), broker.open) == (1, 0)


def test_a_connection_on_which_nothing_can_be_set_up_is_abandoned(broker: Any) -> None:
    def set_up(_: Any) -> FakeResource:
        raise DENIED

    with pytest.raises(ProbeError, match="denied"):
        Session(broker, set_up).use(Deadline.after(5), failing())
    assert [connection.ended for connection in broker.connections] == [["abandoned"]]
    assert broker.open == 0


@pytest.mark.parametrize(("error", "ended"), [(None, "closed"), (EOFError(), "abandoned")])
def test_close_ends_the_connection_in_any_case(
    broker: FakeBroker, error: Exception | None, ended: str
) -> None:
    session = session_of(broker, FakeResource(error))
    use(session)
    session.close()
    session.close()
    assert [connection.ended for connection in broker.connections] == [[ended]]
    assert broker.open == 0
