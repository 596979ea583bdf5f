"""Descriptions of panels, and the texts that they show when a query returns no data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Requirement(str, Enum):
    """What a panel requires; the value is the text it shows when that is missing."""

    EXPORTER = "No data: no exporter is scraped under this job"
    REPLIES = "No data: no worker replies to remote control"
    QUEUES = "No data: the broker reports no queues"
    EVENTS = "No data: no task events (start workers with -E)"
    SENT = "No data: no sent events (task_send_sent_event)"
    OLDEST = "No data: broker down, or no sent events"
    BACKEND = "No data: no result backend is configured"


@dataclass(frozen=True)
class NoData:
    """The text of a panel whose query returns nothing in normal operation."""

    text: str


@dataclass(frozen=True)
class Description:
    """A description: what the panel shows, what is good, what is bad, and what to do then."""

    summary: str
    good: str
    bad: str
    action: str

    def markdown(self, no_value: Requirement | NoData) -> str:
        """Return the text for Grafana, which renders Markdown."""
        parts = [
            self.summary,
            f"**Good:** {self.good}",
            f"**Bad:** {self.bad}",
            f"**Do:** {self.action}",
            f"**When empty:** {no_value_text(no_value)}.",
        ]
        return "\n\n".join(parts)


def no_value_text(no_value: Requirement | NoData) -> str:
    """Return the text that the panel shows instead of values."""
    return no_value.value if isinstance(no_value, Requirement) else no_value.text
