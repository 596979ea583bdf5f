"""The configuration file: a YAML mapping from options, written without their dashes, to values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from celery_vitals.errors import ConfigError
from celery_vitals.settings.options import Kind, Option


def read(path: Path, options: Iterable[Option]) -> dict[str, Any]:
    """The values in the file, checked, by the option's parameter.

    Raises `ConfigError` that names the file, the line and the key of the first fault.
    """
    known = {declared.key: declared for declared in options if declared.in_file}
    values: dict[str, Any] = {}
    for line, key, value in _entries(path):
        where = f"{path}:{line}"
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{_hint(key, known)}")
        try:
            values[known[key].parameter] = _value(known[key], value)
        except ValueError as error:
            raise ConfigError(f"{where}: {key}: {error}") from None
    return values


def _entries(path: Path) -> Iterator[tuple[int, str, object]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    loader = yaml.SafeLoader(text)
    try:
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
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(_invalid(path, error)) from None
    finally:
        loader.dispose()


def _check_keys(node: yaml.Node, path: Path) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        where = f"{path}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{where}: a key must be a name")
        if key.value in seen:
            raise ConfigError(f"{where}: {key.value}: is there twice")
        seen.add(key.value)
        _check_keys(value, path)


def _invalid(path: Path, error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    line = f":{mark.line + 1}" if mark else ""
    # What YAML quotes from the file may be a part of a secret.
    problem = re.sub(r"'[^']{3,}'", "'...'", getattr(error, "problem", None) or "cannot be read")
    return f"{path}{line}: is not valid YAML: {problem}"


def _hint(key: str, known: Iterable[str]) -> str:
    names = list(known)
    close = (
        get_close_matches(key, names, n=1)
        or [name for name in names if name.startswith(f"{key}.")][:1]
    )
    return f"; did you mean {close[0]!r}?" if close else ""


def _value(declared: Option, value: object) -> Any:
    if value is None:
        raise ValueError("has no value")
    if declared.kind is Kind.MAPPING:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise ValueError("must be a mapping of names to values")
        return tuple(value.items())
    if declared.kind is Kind.LIST:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise ValueError("must not be empty")
        return tuple(declared.parse(item) for item in items)
    return declared.parse(value)
