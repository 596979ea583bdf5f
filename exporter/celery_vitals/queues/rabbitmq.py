"""Queues on RabbitMQ: a passive declare tells what waits and who consumes; the management API tells the rest."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence

import amqp.exceptions
from amqp import spec

from celery_vitals.cluster import BrokerConnection, Management, QueueInfo
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ProbeError, Reason
from celery_vitals.queues import Backlog, Depth, KnownQueues, is_internal

log = logging.getLogger(__name__)

_LONGEST = 255
"""Bytes of a queue's name that AMQP can carry."""
_AT_ONCE = 50
"""Questions that are under way at a time."""
_UNSEEN = (
    ("queue_unacked_messages", "What workers hold and have not acknowledged is not seen: {}."),
    ("queue_discovery", "Queues that no worker consumes and no setting names are not seen: {}."),
)


class RabbitGauge:
    """See `Gauge`."""

    def __init__(self, connection: BrokerConnection, known: KnownQueues, management: Management) -> None:
        self._connection = connection.kombu
        self._channel = connection.kombu.channel()
        self._known = known
        self._management = management
        self._refused: dict[str, str] = {}

    def measure(self, consumed: Collection[str], deadline: Deadline) -> Backlog:
        """The management API for names and unacknowledged messages, then the lengths of this very moment."""
        infos, trouble = self._infos(deadline)
        self._known.found(name for name, info in infos.items() if not info.exclusive)
        if trouble is None:
            self._known.pass_ended()
        names = sorted(name for name in self._known.names() | set(consumed) if len(name.encode()) <= _LONGEST)
        queues: dict[str, Depth] = {}
        for name, (ready, consumers) in self._declared(names, deadline):
            info = infos.get(name)
            queues[name] = Depth(ready, info.unacked if info else None, consumers)
        blind = tuple((subject, text.format(trouble), "--rabbitmq-management-url") for subject, text in _UNSEEN)
        return Backlog(queues, blind=blind if trouble else ())

    def close(self) -> None:
        """Nothing was set up."""

    def _infos(self, deadline: Deadline) -> tuple[dict[str, QueueInfo], str | None]:
        infos = self._management.queues(self._connection.virtual_host or "/", deadline)
        if isinstance(infos, str):
            return {}, infos
        return {name: info for name, info in infos.items() if not is_internal(name)}, None

    def _declared(self, names: Sequence[str], deadline: Deadline) -> Iterator[tuple[str, tuple[int, int]]]:
        """Messages ready and consumers; nothing of a queue that does not exist or may not be looked at.

        The broker is asked for many at once, and answers in order.  What it refused the last time is asked for alone:
        with a refusal it forgets what else was asked.
        """
        asked: deque[str] = deque()
        waiting = deque(sorted(names, key=lambda name: name in self._refused))
        while asked or waiting:
            if deadline.passed:
                raise ProbeError(Reason.TIMEOUT, f"{len(asked) + len(waiting)} queues not read when the time was up")
            while waiting and len(asked) < (1 if waiting[0] in self._refused else _AT_ONCE):
                asked.append(waiting.popleft())
                self._ask(asked[-1])
            name = asked.popleft()
            try:
                answered, ready, consumers = self._channel.wait(spec.Queue.DeclareOk, returns_tuple=True)
            except (amqp.exceptions.NotFound, amqp.exceptions.AccessRefused, amqp.exceptions.ResourceLocked) as error:
                # The broker closes the channel with such an answer, and only the channel.
                self._channel = self._connection.channel()
                waiting.extendleft(reversed(asked))
                asked.clear()
                if self._refused.get(name) != error.reply_text:
                    self._refused[name] = error.reply_text
                    log.warning("queue %s cannot be read: %s", name, error.reply_text)
                continue
            self._refused.pop(name, None)
            yield answered, (ready, consumers)

    def _ask(self, name: str) -> None:
        """A passive declare, as the library sends it, without waiting for the answer."""
        self._channel.send_method(spec.Queue.Declare, "BsbbbbbF", (0, name, True, False, False, False, False, None))
