"""What a panel says in words: its description, and what it shows instead of an empty frame."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Needs(str, Enum):
    """What a panel cannot do without, said where its values would be."""

    EXPORTER = "Not seen: no exporter is scraped under this job"
    REPLIES = "Not seen: no worker replies to remote control"
    QUEUES = "Not seen: the broker tells of no queue"
    EVENTS = "Not seen: no task events (start workers with -E)"
    SENT = "Not seen: no sent events (task_send_sent_event)"
    OLDEST = "Not seen: broker down, or no sent events"
    BACKEND = "Not seen: no result backend is configured"


@dataclass(frozen=True)
class Quiet:
    """Shown where there is rightly nothing to list."""

    text: str


@dataclass(frozen=True)
class Words:
    """A description: what it is, what is good, what is bad, and what to do then."""

    what: str
    good: str
    bad: str
    do: str

    def text(self, empty: Needs | Quiet) -> str:
        """As Grafana shows it, in Markdown."""
        parts = [self.what, f"**Good:** {self.good}", f"**Bad:** {self.bad}", f"**Do:** {self.do}"]
        return "\n\n".join([*parts, f"**When empty:** {said(empty)}."])


def said(empty: Needs | Quiet) -> str:
    """The sentence that stands in the place of values."""
    return empty.value if isinstance(empty, Needs) else empty.text
