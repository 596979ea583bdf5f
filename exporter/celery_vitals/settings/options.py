"""The declaration of an option, and the names that are derived from its flag."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from typing import Any

from celery_vitals.settings.parsers import Parser, boolean, file

ENVIRONMENT_PREFIX = "CELERY_VITALS_"


class ValueType(Enum):
    """How the values of an option are combined."""

    SINGLE = "one value"
    SWITCH = "true or false"
    LIST = "a tuple of values"
    MAPPING = "a mapping, given as NAME=VALUE"
    SWITCH_SET = "a set of names, each with its own switch"


@dataclasses.dataclass(frozen=True)
class Option:
    """The declaration of one option."""

    flag: str  # with its dashes
    help: str  # one sentence
    group: str
    parse: Parser[Any]  # parses one value
    metavar: str = ""
    default: Any = None
    value_type: ValueType = ValueType.SINGLE
    short: str = ""
    secret: bool = False
    names: tuple[str, ...] = ()  # of a SWITCH_SET
    in_file: bool = True  # whether the configuration file may contain it

    @property
    def key(self) -> str:
        """The name in the configuration file."""
        return self.flag.removeprefix("--")

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return ENVIRONMENT_PREFIX + self.parameter.upper()

    @property
    def parameter(self) -> str:
        """The name of the parameter of the command."""
        return re.sub(r"[.-]", "_", self.key)

    @property
    def flags(self) -> str:
        """The flags as shown in the help: short form, `--[no-]` for a switch, metavar."""
        negatable = self.value_type is ValueType.SWITCH and self.default is True
        flag = f"--[no-]{self.key}" if negatable else self.flag
        return " ".join(
            part for part in (f"{self.short}," if self.short else "", flag, self.metavar) if part
        )

    @property
    def default_text(self) -> str:
        """The default in the notation of the command line; empty without a default."""
        if self.value_type is ValueType.SWITCH:
            return "on" if self.default else "off"
        if self.default is None or self.default == ():
            return ""
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        separator = "," if self.value_type is ValueType.SINGLE else " "
        return separator.join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in values
        )

    def expanded(self) -> Iterator[Option]:
        """Yield the options of the command line: this one and its file option, or its switches."""
        if self.value_type is ValueType.SWITCH_SET:
            for name in self.names:
                yield dataclasses.replace(
                    self,
                    flag=f"{self.flag}.{name}",
                    help=self.help.format(name),
                    value_type=ValueType.SWITCH,
                    default=True,
                )
            return
        yield self
        if self.secret:
            yield self.file_option

    def checked(self, value: Any) -> Any:
        """Validate and convert the value of a field.  Raises ValueError."""
        if self.value_type is ValueType.MAPPING:
            if not isinstance(value, Mapping):
                raise ValueError(f"must be a mapping, not {type(value).__name__}")
            return RedactedMapping(dict(self.parse(item) for item in value.items()))
        if self.value_type in (ValueType.LIST, ValueType.SWITCH_SET):
            return self._checked_items((value,) if isinstance(value, str) else value)
        if value is None and self.default is None and self.value_type is ValueType.SINGLE:
            return None
        return self.parse(value)

    def _checked_items(self, items: Any) -> Any:
        if not isinstance(items, Collection):
            raise ValueError(f"must be a list, not {type(items).__name__}")  # noqa: TRY004
        if self.value_type is ValueType.LIST:
            if not items and self.default:
                raise ValueError("must not be empty")
            return tuple(self.parse(item) for item in items)
        for name in items:
            if name not in self.names:
                expected = ", ".join(self.names)
                raise ValueError(f"unknown collector {name!r} (expected one of: {expected})")
        return frozenset(items)

    @property
    def file_option(self) -> Option:
        """The option for a file that contains the value of this one, a secret."""
        return Option(
            f"{self.flag}-file",
            f"File that contains the value of {self.flag}.",
            self.group,
            file,
            "PATH",
        )


def option(
    flag: str, help: str, *, group: str, parse: Parser[Any], default: Any = None, **more: Any
) -> Any:
    """Declare an option as a field of a dataclass; `more` are attributes of `Option`."""
    declared = Option(flag, help, group, parse, default=default, **more)
    metadata = {"option": declared}
    if declared.value_type is ValueType.MAPPING:
        return dataclasses.field(default_factory=RedactedMapping, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def switch(flag: str, help: str, *, group: str, default: bool = False, **more: Any) -> Any:
    """Declare an option with the values true and false."""
    return option(
        flag, help, group=group, parse=boolean, default=default, value_type=ValueType.SWITCH, **more
    )


class RedactedMapping(Mapping[str, Any]):
    """An immutable mapping whose repr shows its names only: a value may be a password."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"RedactedMapping({', '.join(self._values)})"


def options_of(settings: type) -> dict[str, Option]:
    """Return the options of a dataclass by field name."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(settings)}
