"""Refusals by an ACL of Redis: the denied command or keys, from the error of the server."""

from __future__ import annotations

import re
from dataclasses import dataclass

import redis.exceptions

from celery_vitals.blind_spots import BlindSpot

_COMMAND = re.compile(r"run the '([^']+)' command")


@dataclass(frozen=True)
class Refusal:
    """The command or keys that this user may not use."""

    commands: tuple[str, ...] = ()
    """The denied command; several where it is one of them; none where keys are denied."""

    @property
    def for_all_keys(self) -> bool:
        """Whether it holds for every queue alike."""
        return bool(self.commands)

    @property
    def clause(self) -> str:
        """The refusal as part of a sentence."""
        if not self.commands:
            return "permission denied for the keys"
        one_of = "command" if len(self.commands) == 1 else "one of the commands"
        return f"permission denied for the {one_of} {', '.join(self.commands)}"


@dataclass(frozen=True)
class PermissionBlindSpot(BlindSpot):
    """A blind spot whose reason is a refusal."""


def refusal_of(error: object) -> Refusal | None:
    """Return the refusal that an error of the server reports; None for any other error."""
    command = _COMMAND.search(str(error))
    if command is not None:
        return Refusal((command[1].upper().replace("|", " "),))
    return Refusal() if isinstance(error, redis.exceptions.NoPermissionError) else None
