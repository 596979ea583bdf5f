"""docs/architecture.md agrees with the code: its files exist, in the order of the imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import chain, combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "exporter" / "celery_vitals"
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PATHS = ("The scrape path", "The event path")


def section(title: str) -> str:
    """Return the text below a heading of the page."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/architecture.md has no section {title!r}"
    return found[1]


def code(text: str) -> list[str]:
    """Return the words between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def rows(title: str) -> Iterator[list[str]]:
    """Return the cells of each row of a section's table, without its header."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def is_path(word: str) -> bool:
    return re.fullmatch(r"[\w./-]+(\.(py|md|html|toml|yml)|/)|\.importlinter", word) is not None


def listed_modules() -> dict[str, Path]:
    """Return the modules of the section Packages, by their names on the page."""
    found = {}
    for package, _, modules in rows("Packages"):
        (folder,) = code(package)
        for module in code(modules):
            found[f"{folder}{module}"] = PACKAGE / folder / module
    for module, _ in rows("Modules outside packages"):
        (name,) = code(module)
        found[name] = PACKAGE / name
    return found


def steps(title: str) -> list[list[str]]:
    """Return, for each numbered step of a path, the modules of its files as they are named."""
    numbered = re.findall(r"^\d+\. (.*(?:\n   .*)*)", section(title), re.MULTILINE)
    files = [[word for word in code(step) if word.endswith(".py")] for step in numbered]
    return [[module_of(PACKAGE / name) for name in step] for step in files]


def module_of(path: Path) -> str:
    """Return the name by which a file is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py" or path.stat().st_size
}


def imports_of(path: Path) -> Iterator[str]:
    """Return the modules of the package that a file imports, in functions and for types as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            submodules = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in submodules]
        else:
            continue
        yield from (name for name in names if name in MODULES)


IMPORTS = {module: frozenset(imports_of(path)) for module, path in MODULES.items()}


def reachable(module: str) -> set[str]:
    """Return the modules that a module imports, directly or through others."""
    found: set[str] = set()
    pending = [module]
    while pending:
        for name in IMPORTS[pending.pop()] - found:
            found.add(name)
            pending.append(name)
    return found


def unit_of(module: str) -> str:
    """Return the package or module directly below the root that a module belongs to."""
    return module.split(".")[1]


def layers() -> list[list[str]]:
    """Return the packages and modules of each layer of the page, the top layer first."""
    return [
        [word.rstrip("/").removesuffix(".py") for word in code(units)]
        for units, _ in rows("Layers")
    ]


def test_every_file_on_the_page_exists() -> None:
    named = set(filter(is_path, code(re.sub(r"^\|.*$", "", PAGE, flags=re.MULTILINE))))
    named |= {word for row in rows("Where to add things") for word in code(row[1]) if is_path(word)}
    missing = [
        name for name in named if not any((base / name).exists() for base in (ROOT, PACKAGE))
    ]
    missing += [name for name, path in listed_modules().items() if not path.is_file()]
    assert sorted(missing) == []


def test_every_module_is_on_the_page() -> None:
    listed = set(listed_modules().values())
    modules = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    assert [str(path.relative_to(PACKAGE)) for path in modules if path not in listed] == []


def test_every_package_is_on_the_page() -> None:
    listed = {folder for package, *_ in rows("Packages") for folder in code(package)}
    packages = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.rglob("*/__init__.py")}
    assert packages - listed == set()


def test_every_unit_is_in_one_layer() -> None:
    named = [unit for layer in layers() for unit in layer]
    units = {unit_of(module) for module in MODULES if "." in module}
    assert sorted(named) == sorted(units)


def test_imports_go_to_lower_layers_only() -> None:
    level = {unit: number for number, layer in enumerate(layers()) for unit in layer}
    wrong = [
        f"{importer} imports {imported}"
        for importer, names in IMPORTS.items()
        for imported in names
        if "." in importer and "." in imported
        if unit_of(importer) != unit_of(imported)
        and level[unit_of(importer)] >= level[unit_of(imported)]
    ]
    assert wrong == []


@pytest.mark.parametrize("title", PATHS)
def test_each_file_of_a_path_is_reached_by_imports_from_the_first(title: str) -> None:
    first, *others = chain.from_iterable(steps(title))
    assert sorted(set(others) - reachable(first)) == []


@pytest.mark.parametrize("title", PATHS)
def test_no_step_of_a_path_imports_an_earlier_one(title: str) -> None:
    """A step is its first file; further files may be used by several steps."""
    modules = [step[0] for step in steps(title)]
    assert len(modules) > 5
    wrong = [
        f"{later} imports {earlier}"
        for earlier, later in combinations(modules, 2)
        if earlier in IMPORTS[later]
    ]
    assert wrong == []
