"""The table of options: what one option is, and the names that follow from its flag."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from celery_vitals.settings.parsers import Parser, boolean, file

ENVIRONMENT_PREFIX = "CELERY_VITALS_"


class Kind(Enum):
    """How often an option may be given, and what its values become."""

    ONE = "one value"
    SWITCH = "true or false"
    LIST = "a tuple of values"
    MAPPING = "a mapping, given as NAME=VALUE"
    SWITCHES = "a set of names, each with a switch of its own"


@dataclasses.dataclass(frozen=True)
class Option:
    """One option, as a person gives it."""

    flag: str  # with its dashes
    help: str  # one sentence
    group: str
    parse: Parser[Any]  # of one value
    metavar: str = ""
    default: Any = None
    kind: Kind = Kind.ONE
    short: str = ""
    secret: bool = False
    names: tuple[str, ...] = ()  # of Kind.SWITCHES
    in_file: bool = True  # whether the configuration file may hold it

    @property
    def key(self) -> str:
        """Its name in the configuration file."""
        return self.flag.removeprefix("--")

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.parameter.upper()

    @property
    def parameter(self) -> str:
        """Its name as a parameter of the command."""
        return re.sub(r"[.-]", "_", self.key)

    @property
    def flags(self) -> str:
        """The flags as they are shown: `--[no-]` where it can be switched off, a short form, what it takes."""
        switch = self.kind is Kind.SWITCH and self.default is True
        flag = f"--[no-]{self.key}" if switch else self.flag
        return " ".join(
            part for part in (f"{self.short}," if self.short else "", flag, self.metavar) if part
        )

    @property
    def default_text(self) -> str:
        """The default as it would be written, empty when there is none."""
        if self.kind is Kind.SWITCH:
            return "on" if self.default else "off"
        if self.default is None or self.default == ():
            return ""
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        joint = "," if self.kind is Kind.ONE else " "
        return joint.join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in values
        )

    def given(self) -> Iterator[Option]:
        """The options that people give for this one: itself, with its file's twin, or one switch for each name."""
        if self.kind is Kind.SWITCHES:
            for name in self.names:
                yield dataclasses.replace(
                    self,
                    flag=f"{self.flag}.{name}",
                    help=self.help.format(name),
                    kind=Kind.SWITCH,
                    default=True,
                )
            return
        yield self
        if self.secret:
            yield self.twin

    @property
    def twin(self) -> Option:
        """The option that names a file with the value of this one, which is a secret."""
        return Option(
            f"{self.flag}-file",
            f"File that holds the value of {self.flag}.",
            self.group,
            file,
            "PATH",
        )


def option(
    flag: str, help: str, *, group: str, parse: Parser[Any], default: Any = None, **more: Any
) -> Any:
    """A field of a dataclass that is an option too; `more` are attributes of `Option`."""
    declared = Option(flag, help, group, parse, default=default, **more)
    metadata = {"option": declared}
    if declared.kind is Kind.MAPPING:
        return dataclasses.field(default_factory=RedactedMapping, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def switch(flag: str, help: str, *, group: str, default: bool = False, **more: Any) -> Any:
    """Like `option`, for what is on or off."""
    return option(flag, help, group=group, parse=boolean, default=default, kind=Kind.SWITCH, **more)


class RedactedMapping(Mapping[str, Any]):
    """A mapping that nobody can change and that shows its names only: a value may be a password."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Options({', '.join(self._values)})"


def options_of(kind: type) -> dict[str, Option]:
    """The declared options of a dataclass, by the name of their field."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(kind)}
