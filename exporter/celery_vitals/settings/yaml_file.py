"""The configuration file: a YAML mapping of options, without leading dashes, to values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from celery_vitals.errors import ConfigError
from celery_vitals.settings.options import Option, ValueType

# A string as `repr` quotes it.
_QUOTATION = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
_SHORT = 4  # characters with the quotes; PyYAML quotes single characters in many messages

YAML_ERRORS = (
    yaml.YAMLError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""Errors of PyYAML for an invalid file: its constructors do not check what a tag is applied to."""


def read(path: Path, options: Iterable[Option]) -> dict[str, Any]:
    """Read the file, and return the parsed values by the parameter of the option.

    Raises `ConfigError` with the file, the line and the key of the first error.
    """
    known = {option.key: option for option in options if option.in_file}
    values: dict[str, Any] = {}
    for line, key, value in _entries(path):
        location = f"{path}:{line}"
        if key not in known:
            raise ConfigError(f"{location}: unknown key {key!r} ({_suggestion(key, known)})")
        try:
            values[known[key].parameter] = _value(known[key], value)
        except ValueError as error:
            raise ConfigError(f"{location}: {key}: {error}") from None
    return values


def _entries(path: Path) -> Iterator[tuple[int, str, object]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                f"{path}:{node.start_mark.line + 1}: must be a mapping of options to values"
            )
        _check_keys(node, path)
        for key, value in node.value:
            yield key.start_mark.line + 1, key.value, loader.construct_object(value, deep=True)
    except YAML_ERRORS as error:
        raise ConfigError(_invalid(path, error)) from None


def _check_keys(node: yaml.Node, path: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        location = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{location}: a key must be a string")
        if key.value in seen:
            raise ConfigError(f"{location}: duplicate key {key.value!r}")
        seen.add(key.value)
        _check_keys(value, path)


def _invalid(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    # A quotation from the file may be a part of a secret.
    problem = getattr(error, "problem", None) or "cannot be parsed"
    return f"{path}{line}: not valid YAML: {_QUOTATION.sub(_masked, problem)}"


def _masked(quotation: re.Match[str]) -> str:
    return quotation[0] if len(quotation[0]) <= _SHORT else "'...'"


def _suggestion(key: str, known: Iterable[str]) -> str:
    names = list(known)
    close = (
        get_close_matches(key, names, n=1)
        or [name for name in names if name.startswith(f"{key}.")][:1]
    )
    return f"did you mean {close[0]!r}?" if close else f"expected one of: {', '.join(names)}"


def _value(option: Option, value: object) -> Any:
    if value is None:
        raise ValueError("must have a value")
    if option.value_type is ValueType.MAPPING:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ValueError("must be a mapping of names to values")
        return tuple(value.items())
    if option.value_type is ValueType.LIST:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ValueError("must not be empty")
        return tuple(option.parse(item) for item in items)
    return option.parse(value)
