"""Remote control of workers: several commands in one broadcast, replies in one kept mailbox.

Implements the protocol of kombu's pidbox, which every worker since Celery 3.1 answers.  Celery's
`Inspect` restarts its timeout with every reply, declares and deletes a queue per call, and sends
one command at a time.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_vitals.brokers.base import Mailbox, Reply
from celery_vitals.deadline import Deadline

FIRST_WAIT = 1.0
"""Seconds to wait for replies while no worker is known; Celery's default."""
_LATE_WAIT = 0.25
"""Seconds to wait for late replies where no command is sent."""
GRACE_FACTOR = 2.0
GRACE_MIN = 0.005
"""Unknown workers get this multiple of the slowest known reply, and at least these seconds."""
_TICKETS_KEPT = 64


@dataclass(frozen=True)
class Command:
    """A remote control command; without `destination` it is for every worker."""

    method: str
    destination: frozenset[str] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """One worker's reply to one command."""

    method: str
    worker: str
    body: Any
    seconds: float
    """From the broadcast of the command to the arrival of the reply."""
    late: bool = False
    """Whether the command was one of an earlier round."""


class _Round:
    """The commands of one round, and the workers that have answered them."""

    def __init__(self, tickets: Mapping[str, Command], expected: Collection[str]) -> None:
        self.answers: list[Answer] = []
        self.replied: set[str] = set()
        self.slowest = 0.0
        self._commands = tickets
        self._answered: dict[str, set[str]] = {ticket: set() for ticket in tickets}
        self._awaited = set(expected)

    @property
    def complete(self) -> bool:
        """Whether all expected workers, and all that replied, have answered all their commands."""
        return self._answered_by(self._awaited)

    def complete_for(self, mailboxes: int | None) -> bool:
        """Return whether as many workers have answered all their commands as mailboxes exist."""
        return (
            mailboxes is not None
            and len(self.replied) >= mailboxes
            and self._answered_by(self.replied)
        )

    def _answered_by(self, workers: set[str]) -> bool:
        for ticket, command in self._commands.items():
            asked = workers if command.destination is None else workers & command.destination
            if not asked <= self._answered[ticket]:
                return False
        return True

    def issued(self, ticket: str) -> bool:
        """Return whether a ticket is one of this round."""
        return ticket in self._answered

    def take(self, answer: Answer, ticket: str) -> None:
        """Add an answer; a late one does not count for this round."""
        self.answers.append(answer)
        if not answer.late:
            self._answered[ticket].add(answer.worker)
            self._awaited.add(answer.worker)
            self.replied.add(answer.worker)
            self.slowest = max(self.slowest, answer.seconds)


class RemoteControl:
    """Sends commands to the workers, over one mailbox.  For one thread at a time."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._replies_pending = False
        self.silent: int | None = None
        """Mailboxes that received the last broadcast and did not reply in time; None where the
        broker does not report how many there are."""
        self.received = False
        """Whether a mailbox may have received the last broadcast."""
        self._tickets: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def ask(
        self, commands: Sequence[Command], expected: Collection[str], deadline: Deadline
    ) -> list[Answer]:
        """Broadcast `commands` and collect the answers until all `expected` workers have answered.

        With none expected it waits FIRST_WAIT seconds at most.  Other workers (a new one, one that
        has long been silent) get a short grace period after the last expected one.  Late answers
        to earlier rounds are included: they show that the worker is alive.  Without commands it
        only collects those.
        """
        sent = time.monotonic()
        tickets = {str(uuid.uuid4()): command for command in commands}
        for ticket, command in tickets.items():
            self._tickets[ticket] = command.method, sent
        while len(self._tickets) > _TICKETS_KEPT:
            self._tickets.popitem(last=False)
        mailboxes = self._mailbox.broadcast(
            [self._message(ticket, command) for ticket, command in tickets.items()]
        )
        current = _Round(tickets, expected)
        if not commands:
            until = deadline.within(_LATE_WAIT)
        else:
            until = deadline if expected else deadline.within(FIRST_WAIT)
        self._collect(current, bool(commands and expected), mailboxes, until)
        self.received = mailboxes != 0 and not self._mailbox.undelivered
        if commands:
            self._replies_pending = not (
                current.complete and (mailboxes is None or current.complete_for(mailboxes))
            )
        self.silent = max(0, mailboxes - len(current.replied)) if mailboxes is not None else None
        return current.answers

    @property
    def discarded(self) -> int:
        """How many replies of the last round were too large to be read."""
        return self._mailbox.intake.discarded

    def close(self) -> None:
        """Remove the mailbox from the broker."""
        self._mailbox.close(self._replies_pending)

    def _collect(
        self, current: _Round, known: bool, mailboxes: int | None, until: Deadline
    ) -> None:
        in_grace = False
        while not (mailboxes == 0 or self._mailbox.undelivered):
            if current.complete_for(mailboxes):
                return
            if current.complete and known and not in_grace:
                in_grace = True
                until = until.within(max(GRACE_MIN, GRACE_FACTOR * current.slowest))
            replies = self._mailbox.receive(until)
            if not replies:
                return
            for reply in replies:
                self._take(reply, current)

    def _take(self, reply: Reply, current: _Round) -> None:
        method, sent = self._tickets.get(reply.ticket, (None, 0.0))
        if method is None:
            return
        for worker, body in reply.body.items():
            answer = Answer(
                method, worker, body, time.monotonic() - sent, late=not current.issued(reply.ticket)
            )
            current.take(answer, reply.ticket)

    def _message(self, ticket: str, command: Command) -> dict[str, Any]:
        return {
            "method": command.method,
            "arguments": dict(command.arguments),
            "destination": sorted(command.destination) if command.destination is not None else None,
            "pattern": None,
            "matcher": None,
            "ticket": ticket,
            "reply_to": dict(self._mailbox.address),
        }
