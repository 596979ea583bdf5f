"""Reading a mapping strictly: wrong types and unknown keys are faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

_KINDS: Mapping[type, str] = {str: "a text", bool: "true or false", list: "a list"}


class Fault(Exception):
    """What is wrong with a file, in a few words, without the file's name and without a secret."""


class Section:
    """A mapping whose keys are taken one by one; what is left at the end is unknown."""

    def __init__(self, name: str, content: object) -> None:
        content = {} if content is None else content
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise Fault(f"{name or 'the file'} must be a mapping of names to values")
        self._prefix = f"{name}." if name else ""
        self._left: dict[str, Any] = dict(content)

    @property
    def left(self) -> tuple[str, ...]:
        """The keys that nobody took yet."""
        return tuple(self._left)

    def take(self, key: str, kind: type = object, default: Any = None) -> Any:
        """The value of `key`, which must be a `kind`; `default` when it is absent or blank."""
        value = self._left.pop(key, None)
        if value is None or value == "":
            return default
        if not isinstance(value, kind):
            self.refuse(key, f"must be {_KINDS[kind]}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts at `key`; empty when it is absent."""
        values = self.take(key, list, [])
        if not all(isinstance(value, str) for value in values):
            self.refuse(key, "must be a list of texts")
        return tuple(values)

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raise the Fault of `key`."""
        raise Fault(f"{self._prefix}{key} {why}")

    def end(self) -> None:
        """Refuse what nobody took."""
        for key in self._left:
            self.refuse(key, "is not a known key")
