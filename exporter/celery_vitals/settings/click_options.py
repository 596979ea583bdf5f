"""The options of click, and the settings from its results.

Nothing else reads the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Secret
from celery_vitals.settings import parsers as parse
from celery_vitals.settings import yaml_file
from celery_vitals.settings.model import CONFIGURATION, Settings
from celery_vitals.settings.options import ENVIRONMENT_PREFIX, Option, ValueType, options_of

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # generic at runtime in newer versions of click only

CONFIG_FILE = Option(
    "--config.file", "YAML file with options, named without the leading dashes.",
    CONFIGURATION, parse.file, "PATH", in_file=False,
)  # fmt: skip
CONFIG_CHECK = Option(
    "--config.check", "Validate the configuration without network access, and exit.",
    CONFIGURATION, parse.boolean, default=False, value_type=ValueType.SWITCH,
    in_file=False,
)  # fmt: skip


def all_options() -> Iterator[Option]:
    """Yield the options of the command line, in the order of the help."""
    for option in options_of(Settings).values():
        yield from option.expanded()
    yield from (CONFIG_FILE, CONFIG_CHECK)


class ClickOption(click.Option):
    """An option of click for a declared option."""

    def __init__(self, option: Option) -> None:
        self.option = option
        many = option.value_type in (ValueType.LIST, ValueType.MAPPING)
        flag = option.flag
        if option.value_type is ValueType.SWITCH and option.default:
            flag = f"{flag}/--no-{option.key}"
        shown = f"  [default: {option.default_text}]" if option.default else ""
        super().__init__(
            [option.parameter, flag, *filter(None, [option.short])],
            type=_Boolean() if option.value_type is ValueType.SWITCH else _Parsed(option),
            is_flag=option.value_type is ValueType.SWITCH,
            default=option.default if option.value_type is ValueType.SWITCH else None,
            multiple=many,
            metavar=option.metavar or None,
            envvar=option.variable,
            allow_from_autoenv=False,
            help=f"{option.help}{shown}",
            is_eager=option is CONFIG_FILE,
            callback=_read_file if option is CONFIG_FILE else None,
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return flags and help, with `--[no-]` as in the documentation."""
        return None if self.hidden else (self.option.flags, self.help or "")


class _Parsed(_Type):
    """The type of a value: validated by the parser of the option."""

    def __init__(self, option: Option) -> None:
        self.option = option
        self.name = option.metavar.lower()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.option.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split a variable: at commas or spaces; a mapping may also be one JSON object."""
        if self.option.value_type is ValueType.MAPPING:
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
    """Make the values of the file the defaults of the other options, which are parsed later."""
    if path is not None and not ctx.resilient_parsing:
        ctx.default_map = {**(ctx.default_map or {}), **yaml_file.read(path, all_options())}
    return path


def misspelled_variables() -> Iterator[tuple[str, str]]:
    """Yield each unknown environment variable that resembles a known one, with that one.

    Other variables with the prefix are ignored: Kubernetes sets some for a service of that name.
    """
    known = {option.parameter.upper() for option in all_options()}
    present = {
        name.removeprefix(ENVIRONMENT_PREFIX)
        for name in os.environ
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    for name in sorted(present - known):
        for suggestion in get_close_matches(name, known, n=1, cutoff=0.75):
            yield ENVIRONMENT_PREFIX + name, ENVIRONMENT_PREFIX + suggestion


def option_source(ctx: click.Context, option: Option) -> str | None:
    """Describe the source of the option's value; None for a default."""
    source = ctx.get_parameter_source(option.parameter)
    if source is ParameterSource.ENVIRONMENT:
        return option.variable
    if source is ParameterSource.DEFAULT_MAP:
        return f"{option.key} in {ctx.params[CONFIG_FILE.parameter]}"
    return option.flag if source is ParameterSource.COMMANDLINE else None


def settings_of(ctx: click.Context) -> Settings:
    """Build the settings of a command with all options.  Raises `ConfigError`."""
    return Settings(
        **{name: value_of(ctx, option) for name, option in options_of(Settings).items()}
    )


def settings_of_keywords(function: str, keywords: Mapping[str, Any]) -> Settings:
    """Build the settings from keyword arguments; variables and the file provide the others.

    `config_file` is the path of the file.  Raises `ConfigError`.
    """
    declared = options_of(Settings)
    names = [*declared, CONFIG_FILE.parameter]
    for name in keywords:
        if name not in names:
            raise ConfigError(f"{function}: unknown option {name!r}{_suggestion(name, names)}")
    left = {name: option for name, option in declared.items() if name not in keywords}
    options = [one for option in left.values() for one in option.expanded()]
    command = click.Command(function, params=[ClickOption(one) for one in (*options, CONFIG_FILE)])
    given = keywords.get(CONFIG_FILE.parameter)
    arguments = [] if given is None else [CONFIG_FILE.flag, str(given)]
    try:
        ctx = command.make_context(function, arguments)
    except click.UsageError as error:
        raise ConfigError(usage_message(error)) from None
    values = {name: value_of(ctx, option) for name, option in left.items()}
    return Settings(**values, **{name: keywords[name] for name in declared if name in keywords})


def _suggestion(name: str, names: Sequence[str]) -> str:
    close = get_close_matches(name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else " (see docs/options.md)"


def usage_message(error: click.UsageError) -> str:
    """Describe a wrong value by its source: a flag, a variable or a key of the file."""
    if isinstance(error, click.BadParameter) and isinstance(error.param, ClickOption) and error.ctx:
        return f"{option_source(error.ctx, error.param.option)}: {error.message}"
    return error.format_message()


def value_of(ctx: click.Context, option: Option) -> Any:
    """Return the value of an option, from its file if there is one.  Raises `ConfigError`."""
    if option.value_type is ValueType.SWITCH_SET:
        switches = option.expanded()
        return frozenset(
            one.flag.rpartition(".")[2] for one in switches if ctx.params[one.parameter]
        )
    value = ctx.params[option.parameter]
    if option.secret:
        return _secret_from_file(ctx, option) if option_source(ctx, option.file_option) else value
    if option.value_type is ValueType.MAPPING:
        return _mapping(option_source(ctx, option), value)
    return value if value not in (None, ()) else option.default


def _mapping(source: str | None, pairs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{source}: duplicate name {name!r}")
    return dict(pairs)


def _secret_from_file(ctx: click.Context, option: Option) -> Secret:
    """Read the secret from the file of the file option."""
    source = option_source(ctx, option.file_option)
    other = option_source(ctx, option)
    if other:
        raise ConfigError(f"{other} and {source} are mutually exclusive")
    path: Path = ctx.params[option.file_option.parameter]
    try:
        secret: Secret = option.parse(path.read_text(encoding="utf-8").rstrip("\n"))
    except UnicodeDecodeError:
        raise ConfigError(f"{source}: {path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{source}: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{source}: {path}: {error}") from None
    return secret
