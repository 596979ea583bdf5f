"""The options as click takes them, and the settings that click has found.  Nothing else reads the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Secret
from celery_vitals.settings import parsers as parse
from celery_vitals.settings import yaml_file as file
from celery_vitals.settings.model import CONFIGURATION, Settings
from celery_vitals.settings.options import ENVIRONMENT_PREFIX, Kind, Option, options_of

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # generic for the type checker only, in the older versions of click

CONFIG_FILE = Option(
    "--config.file", "YAML file with options, their names without the dashes.",
    CONFIGURATION, parse.file, "PATH", in_file=False,
)  # fmt: skip
CONFIG_CHECK = Option(
    "--config.check", "Check everything that needs no network, and exit.",
    CONFIGURATION, parse.boolean, default=False, kind=Kind.SWITCH, in_file=False,
)  # fmt: skip


def all_options() -> Iterator[Option]:
    """Every option as people give it, in the order of the help."""
    for declared in options_of(Settings).values():
        yield from declared.given()
    yield from (CONFIG_FILE, CONFIG_CHECK)


class ClickOption(click.Option):
    """One option of the table, for click."""

    def __init__(self, declared: Option) -> None:
        self.declared = declared
        many = declared.kind in (Kind.LIST, Kind.MAPPING)
        flag = declared.flag
        if declared.kind is Kind.SWITCH and declared.default:
            flag = f"{flag}/--no-{declared.key}"
        shown = f"  [default: {declared.default_text}]" if declared.default else ""
        super().__init__(
            [declared.parameter, flag, *filter(None, [declared.short])],
            type=_Boolean() if declared.kind is Kind.SWITCH else _Checked(declared),
            is_flag=declared.kind is Kind.SWITCH,
            default=declared.default if declared.kind is Kind.SWITCH else None,
            multiple=many,
            metavar=declared.metavar or None,
            envvar=declared.variable,
            allow_from_autoenv=False,
            help=f"{declared.help}{shown}",
            is_eager=declared is CONFIG_FILE,
            callback=_read_file if declared is CONFIG_FILE else None,
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The flags and the help, with `--[no-]` as the manual writes it."""
        return self.declared.flags, self.help or ""


class _Checked(_Type):
    """A value that the option's own parser takes."""

    def __init__(self, declared: Option) -> None:
        self.declared = declared
        self.name = declared.metavar.lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.declared.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Several values of one variable: apart by commas or spaces, or NAME=VALUE in one JSON object."""
        if self.declared.kind is Kind.MAPPING:
            try:
                return [
                    f"{name}={json.dumps(value)}" for name, value in dict(json.loads(rv)).items()
                ]
            except (ValueError, TypeError):
                return rv.split()
        return rv.replace(",", " ").split()


class _Boolean(click.types.BoolParamType):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        try:
            return parse.boolean(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _read_file(ctx: click.Context, _: click.Parameter, path: Path | None) -> Path | None:
    """Make the values of the file the defaults of the other options, which click reads after this one."""
    if path is not None and not ctx.resilient_parsing:
        ctx.default_map = {**(ctx.default_map or {}), **file.read(path, all_options())}
    return path


def mistyped() -> Iterator[tuple[str, str]]:
    """Variables that no option has, each with the one that was probably meant.

    Others with the prefix are left alone: Kubernetes sets some for every service of that name.
    """
    known = {declared.parameter.upper() for declared in all_options()}
    given = {
        name.removeprefix(ENVIRONMENT_PREFIX)
        for name in os.environ
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    for name in sorted(given - known):
        for meant in get_close_matches(name, known, n=1, cutoff=0.75):
            yield ENVIRONMENT_PREFIX + name, ENVIRONMENT_PREFIX + meant


def source_of(ctx: click.Context, declared: Option) -> str | None:
    """Where the value of the option was given, in words; none when it was not given."""
    source = ctx.get_parameter_source(declared.parameter)
    if source is ParameterSource.ENVIRONMENT:
        return declared.variable
    if source is ParameterSource.DEFAULT_MAP:
        return f"{declared.key} in {ctx.params[CONFIG_FILE.parameter]}"
    return declared.flag if source is ParameterSource.COMMANDLINE else None


def settings_of(ctx: click.Context) -> Settings:
    """The settings of a command that has all the options.  Raises `ConfigError`."""
    return Settings(
        **{name: _value(ctx, declared) for name, declared in options_of(Settings).items()}
    )


def _value(ctx: click.Context, declared: Option) -> Any:
    if declared.kind is Kind.SWITCHES:
        on = {one.flag.rpartition(".")[2]: ctx.params[one.parameter] for one in declared.given()}
        return frozenset(name for name, value in on.items() if value)
    value = ctx.params[declared.parameter]
    if declared.secret:
        return _from_file(ctx, declared) if source_of(ctx, declared.twin) else value
    if declared.kind is Kind.MAPPING:
        return _mapping(source_of(ctx, declared), value)
    return value if value not in (None, ()) else declared.default


def _mapping(source: str | None, pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{source}: {name} is given twice")
    return dict(pairs)


def _from_file(ctx: click.Context, declared: Option) -> Secret:
    """The secret in the file that the twin of the option names."""
    source = source_of(ctx, declared.twin)
    other = source_of(ctx, declared)
    if other:
        raise ConfigError(f"{other} and {source} are both given: give one of them")
    path: Path = ctx.params[declared.twin.parameter]
    try:
        secret: Secret = declared.parse(path.read_text(encoding="utf-8").rstrip("\n"))
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: {path} is not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{source}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{source}: {path}: {error}") from None
    return secret
