"""Remote control of workers: several commands in one broadcast, over one long-lived reply mailbox.

Speaks the wire protocol of kombu's pidbox, which every worker since Celery 3.1 answers.  Not Celery's `Inspect`: that
one restarts its timeout with every reply, declares and deletes a queue per call, and asks one thing at a time.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from celery_vitals.deadline import Deadline

FIRST_WAIT = 1.0
"""Seconds to wait when it is not known who will answer; Celery's own default."""
GRACE_FACTOR = 2.0
GRACE_MIN = 0.005
"""Those who need not answer get this multiple of what the slowest of the others took, and at least these seconds."""
_TICKETS_KEPT = 64


@dataclass(frozen=True)
class Command:
    """A remote control command; without `destination` it is for every worker."""

    method: str
    destination: frozenset[str] | None = None


@dataclass(frozen=True)
class Answer:
    """One worker's answer to one command."""

    method: str
    worker: str
    body: Any
    seconds: float
    """From the broadcast of the command to the answer's arrival."""
    late: bool = False
    """Whether it answers an earlier round's command."""


@dataclass(frozen=True)
class Reply:
    """What arrives in a mailbox, before it is known what it answers."""

    ticket: str
    body: Mapping[str, Any]


class Mailbox(Protocol):
    """A reply mailbox on one kind of broker."""

    def broadcast(self, messages: Sequence[Mapping[str, Any]]) -> int | None:
        """Send messages to every worker.  How many mailboxes listen, where the broker tells."""

    def receive(self, deadline: Deadline) -> Sequence[Reply]:
        """The replies that are there; waits for the first of them until `deadline`, and is empty when none came.

        A reply that cannot be read is left out."""

    @property
    def address(self) -> Mapping[str, str]:
        """Where workers send their replies: exchange and routing key."""

    @property
    def unheard(self) -> bool:
        """Whether the broker has said that nobody listens."""

    def close(self, owed: bool) -> None:
        """Remove the mailbox from the broker; `owed` says whether someone may still answer."""


class _Round:
    """Who was asked what, who has answered, and who must still."""

    def __init__(self, tickets: Mapping[str, Command], expected: Collection[str]) -> None:
        self.answers: list[Answer] = []
        self.heard: set[str] = set()
        self.slowest = 0.0
        self._asked = tickets
        self._answered: dict[str, set[str]] = {ticket: set() for ticket in tickets}
        self._must = set(expected)

    @property
    def complete(self) -> bool:
        """Whether everyone expected, and everyone heard, has answered all that they were asked."""
        return self._answered_by(self._must)

    def everyone(self, listeners: int | None) -> bool:
        """Whether as many have answered all they were asked as there are mailboxes: who is missing is not there."""
        return (
            listeners is not None and len(self.heard) >= listeners and self._answered_by(self.heard)
        )

    def _answered_by(self, workers: set[str]) -> bool:
        for ticket, command in self._asked.items():
            asked = workers if command.destination is None else workers & command.destination
            if not asked <= self._answered[ticket]:
                return False
        return True

    def asked(self, ticket: str) -> bool:
        """Whether a ticket is one of this round."""
        return ticket in self._answered

    def take(self, answer: Answer, ticket: str) -> None:
        """Note an answer; a late one says nothing about this round."""
        self.answers.append(answer)
        if not answer.late:
            self._answered[ticket].add(answer.worker)
            self._must.add(answer.worker)
            self.heard.add(answer.worker)
            self.slowest = max(self.slowest, answer.seconds)


class Control:
    """Asks the workers, over one mailbox.  For one thread at a time."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._owed = False
        self.silent: int | None = None
        """Mailboxes that listened to the last broadcast and did not answer in time; None where the broker does not tell
        who listens."""
        self._tickets: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def ask(
        self, commands: Sequence[Command], expected: Collection[str], deadline: Deadline
    ) -> list[Answer]:
        """Broadcast `commands` and collect the answers, until every one of `expected` has answered.

        With nobody expected it waits FIRST_WAIT seconds at the most.  Whoever else may answer (a new worker, one that
        has been silent for long) gets a short grace after the last one expected.  Answers to earlier rounds that come
        late are among the answers as well: they are signs of life.
        """
        sent = time.monotonic()
        tickets = {str(uuid.uuid4()): command for command in commands}
        for ticket, command in tickets.items():
            self._tickets[ticket] = command.method, sent
        while len(self._tickets) > _TICKETS_KEPT:
            self._tickets.popitem(last=False)
        listeners = self._mailbox.broadcast(
            [self._message(ticket, command) for ticket, command in tickets.items()]
        )
        current = _Round(tickets, expected)
        self._collect(
            current,
            bool(expected),
            listeners,
            deadline if expected else deadline.within(FIRST_WAIT),
        )
        self._owed = not (current.complete and (listeners is None or current.everyone(listeners)))
        self.silent = max(0, listeners - len(current.heard)) if listeners is not None else None
        return current.answers

    def close(self) -> None:
        """Remove the mailbox from the broker."""
        self._mailbox.close(self._owed)

    def _collect(
        self, current: _Round, known: bool, listeners: int | None, until: Deadline
    ) -> None:
        in_grace = False
        while not (listeners == 0 or self._mailbox.unheard):
            if current.everyone(listeners):
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
                method, worker, body, time.monotonic() - sent, late=not current.asked(reply.ticket)
            )
            current.take(answer, reply.ticket)

    def _message(self, ticket: str, command: Command) -> dict[str, Any]:
        return {
            "method": command.method,
            "arguments": {},
            "destination": sorted(command.destination) if command.destination is not None else None,
            "pattern": None,
            "matcher": None,
            "ticket": ticket,
            "reply_to": dict(self._mailbox.address),
        }
