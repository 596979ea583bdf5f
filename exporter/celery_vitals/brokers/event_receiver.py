"""What the event stream wants of a receiver, one of which there is for each kind of broker."""

from __future__ import annotations

from typing import Protocol

from celery_vitals.deadline import Deadline

MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes; a larger message is rejected."""
JSON = "application/json"
UTF8 = (None, "", "utf-8", "UTF-8", "us-ascii", "ascii", "binary")
"""The encodings of JSON that are UTF-8 without more ado."""


class Listener(Protocol):
    """Takes what a receiver hears."""

    def deliver(self, bodies: list[bytes], arrived: float) -> None:
        """Bodies of messages, JSON each, that were read at `arrived` (Unix time)."""

    def reject(self, reason: str) -> None:
        """A message that is not handed on."""


class Receiver(Protocol):
    """A subscription to the events on one connection.  For one thread.  Every method raises what the library raises."""

    @property
    def muted(self) -> bool:
        """Whether the broker has said that it takes nothing from us for now."""

    def receive(self, seconds: float) -> None:
        """Deliver what is there, a block at the most; waits up to `seconds` for it."""

    def publish(self, exchange: str, routing_key: str, body: bytes) -> None:
        """Send a JSON message of our own, the way that workers send theirs.  Does not wait for an answer."""

    def close(self, deadline: Deadline) -> None:
        """End the subscription in good order and leave nothing of it in the broker."""


class Refused(Exception):
    """A message that cannot be used; the text is the reason that it is counted under."""
