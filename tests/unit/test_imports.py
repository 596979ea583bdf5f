"""Import rules that import-linter does not check."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

import celery_vitals
from celery_vitals.metrics.definitions import DEFINITIONS

PACKAGE = Path(celery_vitals.__file__).parent
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
    """Return every module of the program, except those whose path starts with one of `but`."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(but):
            yield name, ast.parse(path.read_text())


def names_used(tree: ast.Module) -> set[str]:
    """Return the names and attributes that are read or called."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} | {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name)
    }


def test_only_settings_read_the_environment() -> None:
    # The demo passes an environment to its child processes; it is not part of the exporter.
    found = {name: names_used(tree) & ENVIRONMENT for name, tree in modules("settings/", "demo/")}
    assert {name: used for name, used in found.items() if used} == {}


def test_only_brokers_result_backends_and_the_cache_open_connections() -> None:
    but = ("brokers/", "result_backends/", "demo/", "integrations/caches.py")
    found = {name: names_used(tree) & CONNECTING for name, tree in modules(*but)}
    assert {name: used for name, used in found.items() if used} == {}


def test_no_import_cycle_not_even_for_types() -> None:
    graph = grimp.build_graph("celery_vitals", exclude_type_checking_imports=False)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError with the modules of a cycle


def test_importing_the_package_loads_none_of_the_exporter_s_libraries() -> None:
    heavy = ("celery", "redis", "uvicorn", "prometheus_client")
    probe = f"import sys, celery_vitals; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_sorted_and_importable() -> None:
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
