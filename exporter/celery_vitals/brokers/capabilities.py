"""The capabilities of a kind of broker.  docs/brokers.md is generated from them.

A length counts as observable only where the answer is true and asking for it changes nothing;
on all other brokers the series are absent, never a wrong 0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capability:
    """Whether something can be observed."""

    available: bool
    detail: str
    """How it is observed, or why it is not; a clause without capital letter and full stop."""

    def __bool__(self) -> bool:
        return self.available


def observed(detail: str) -> Capability:
    """Return a capability, with the way it is observed."""
    return Capability(available=True, detail=detail)


def unobserved(detail: str) -> Capability:
    """Return a capability that is missing, with the reason."""
    return Capability(available=False, detail=detail)


UNTESTED = unobserved("not tested against a real server")
NO_FANOUT = unobserved("kombu's transport has no broadcast")


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of one kind of broker."""

    title: str
    schemes: tuple[str, ...]
    """The schemes of its URLs, in lower case."""
    up: Capability = UNTESTED
    """Whether the broker responds."""
    writable: Capability = UNTESTED
    """Whether the broker accepts messages."""
    length: Capability = UNTESTED
    """Messages waiting in a queue."""
    unacked: Capability = UNTESTED
    """Messages held by workers, by queue."""
    workers: Capability = NO_FANOUT
    """Replies of workers to remote control."""
    events: Capability = NO_FANOUT
    """Events of tasks and workers."""
    tested: bool = False
    """Whether the tests run it against a real server."""
