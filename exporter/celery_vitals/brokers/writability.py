"""Whether a broker accepts messages, and how full it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from celery_vitals.blind_spots import BlindSpot
from celery_vitals.deadline import Deadline


class RefusalReason(str, Enum):
    """Why a broker accepts no messages: the values of the label `reason`."""

    BLOCKED = "blocked"
    DISK = "disk"
    LOADING = "loading"
    MEMORY = "memory"
    PERMISSION = "permission"
    PERSISTENCE = "persistence"
    READ_ONLY = "read_only"
    REPLICAS = "replicas"

    @property
    def description(self) -> str:
        """A description for the status page."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    RefusalReason.BLOCKED: "it blocks connections that publish (an alarm without a known cause)",
    RefusalReason.DISK: "its disk is full, or free space is below the limit",
    RefusalReason.LOADING: "it is loading its data",
    RefusalReason.MEMORY: "its memory limit is reached",
    RefusalReason.PERMISSION: "this user may not write",
    RefusalReason.PERSISTENCE: "it cannot save its data to disk",
    RefusalReason.READ_ONLY: "it is read-only, such as a replica",
    RefusalReason.REPLICAS: "too few replicas are connected",
}


@dataclass(frozen=True)
class Writability:
    """What is known of the broker's readiness to accept messages."""

    writable: bool | None = None
    """None where it is unknown."""
    reason: RefusalReason | None = None
    """Why it is not writable."""
    memory_used: int | None = None
    """Bytes, as the broker compares them with the limit."""
    memory_limit: int | None = None
    """Bytes; None without a limit."""
    eviction_policy: str = ""
    """What Redis deletes at the limit."""
    blind_spots: tuple[BlindSpot, ...] = ()

    @classmethod
    def refused(cls, reason: RefusalReason) -> Writability:
        """Return the state of a broker that accepts no messages."""
        return cls(writable=False, reason=reason)


UNKNOWN = Writability()


class PublisherBlock:
    """Whether the broker blocks a connection that publishes."""

    def __init__(self) -> None:
        self.active = False
        self.cause = ""
        """The broker's text."""

    def begin(self, cause: str) -> None:
        """Record that the broker has blocked the connection."""
        self.active, self.cause = True, cause

    def end(self) -> None:
        """Record that the broker reads the connection again."""
        self.active = False


class WritabilityReader(Protocol):
    """Reads over one connection whether the broker accepts messages.  Leaves nothing behind."""

    def read(self, deadline: Deadline) -> Writability:
        """Ask the broker.  Raises the library's error."""

    def close(self) -> None:
        """Remove from the broker what was set up there."""


class NoWritabilityReader:
    """The reader of a broker kind that does not report it."""

    def read(self, deadline: Deadline) -> Writability:
        """Return that nothing is known."""
        return UNKNOWN

    def close(self) -> None:
        """Do nothing: nothing was set up."""


def unknown_because(problem: str, setting: str = "") -> BlindSpot:
    """Return the blind spot of a broker whose readiness is unknown."""
    text = f"It is not known whether the broker accepts messages: {problem}."
    return BlindSpot("broker_writable", text, setting)


def memory_unknown_because(problem: str, setting: str = "") -> BlindSpot:
    """Return the blind spot of a broker whose memory is unknown."""
    return BlindSpot("broker_memory", f"The broker's memory is not read: {problem}.", setting)
