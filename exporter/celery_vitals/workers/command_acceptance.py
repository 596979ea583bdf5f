"""Whether workers answer the commands of remote control: what they refuse is never repeated.

A worker that does not accept the serializer of a command logs a critical error for each one, and
does not answer.  So does not answer a worker that is busy or frozen: its answer arrives later, and
proves that it accepts.
"""

from __future__ import annotations

import time
from collections.abc import Collection

from celery_vitals.workers.registry import WorkerRegistry

_RETRY_UNSEEN = 600.0
"""Seconds after which unanswered commands are repeated where no worker gives any sign of life."""


class CommandAcceptance:
    """The commands that workers have answered or refused.  For one thread at a time."""

    def __init__(self, registry: WorkerRegistry, reply_serializer: str = "") -> None:
        self._registry = registry
        self._answered: set[str] = set()
        self.refuses_stats = reply_serializer == "yaml"
        """Whether workers do not answer `stats`, though they answer others.  Celery cannot encode
        the answer in YAML; in 5.4 on Redis the attempt ends the remote control of the worker."""
        self._unanswered_since: float | None = None

    @property
    def unanswered(self) -> bool:
        """Whether workers have received commands, and none has ever answered one."""
        return self._unanswered_since is not None

    def may_send(self) -> bool:
        """Return whether no worker is known to have refused."""
        since = self._unanswered_since
        if since is None or self._registry.all_online_since(since):
            return True
        unseen = not self._registry.workers()
        return unseen and time.monotonic() - since > _RETRY_UNSEEN

    def record(self, sent: Collection[str], answered: Collection[str], received: bool) -> None:
        """Record the commands of a round and those that were answered.

        `received` is whether a worker may have received them.
        """
        self._answered |= set(answered)
        if self._answered:
            self._unanswered_since = None
            self._registry.answers_commands = True
        elif sent and received:
            self._unanswered_since = time.monotonic()
        if (answered and "stats" in sent) or self.refuses_stats:
            self.refuses_stats = "stats" not in self._answered
