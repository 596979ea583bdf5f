"""Walls of the house that the linter of imports cannot see."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import celery_vitals
from celery_vitals.metrics.definitions import DEFINITIONS

HOUSE = Path(celery_vitals.__file__).parent
ENVIRONMENT = {"environ", "getenv", "putenv"}
CONNECTING = {
    "Connection",
    "ConnectionPool",
    "PoolManager",
    "StrictRedis",
    "create_engine",
    "from_url",
}


def modules(*but: str) -> Iterator[tuple[str, ast.Module]]:
    """Every module of the program, but those in some rooms."""
    for path in sorted(HOUSE.rglob("*.py")):
        name = path.relative_to(HOUSE).as_posix()
        if not name.startswith(but):
            yield name, ast.parse(path.read_text())


def names_used(tree: ast.Module) -> set[str]:
    """Names and attributes that are read or called."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }


def test_only_the_settings_read_the_environment() -> None:
    # The demo hands an environment to its children; it is no part of the exporter.
    found = {name: names_used(tree) & ENVIRONMENT for name, tree in modules("settings/", "demo/")}
    assert {name: used for name, used in found.items() if used} == {}


def test_only_brokers_and_result_backends_open_connections() -> None:
    found = {
        name: names_used(tree) & CONNECTING
        for name, tree in modules("brokers/", "result_backends.py", "demo/")
    }
    assert {name: used for name, used in found.items() if used} == {}


def test_importing_the_package_loads_none_of_the_exporter_s_libraries() -> None:
    heavy = ("celery", "redis", "uvicorn", "prometheus_client")
    probe = f"import sys, celery_vitals; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_is_public_can_be_had() -> None:
    assert celery_vitals.__all__ == sorted(celery_vitals.__all__)
    for name in celery_vitals.__all__:
        assert getattr(celery_vitals, name) is not None


def test_every_metric_has_one_name_and_follows_the_rules() -> None:
    names = [metric.name for metric in DEFINITIONS]
    assert len(names) == len(set(names))
    for metric in DEFINITIONS:
        assert metric.name.startswith("celery_")
        assert metric.name.endswith("_total") == (metric.kind.value == "counter")
        assert metric.name.endswith("_info") == (metric.kind.value == "info")
        assert metric.help.endswith(".")
