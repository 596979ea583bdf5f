"""The command `export`: from this checkout, and from a wheel in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from celery_vitals._version import __version__
from tests.support.command_line import invoke, one_line

ROOT = Path(__file__).parents[3]
SOURCES = {
    "alerts": ROOT / "alerts",
    "dashboards": ROOT / "grafana" / "dashboards",
    "runbooks": ROOT / "docs" / "runbooks",
}


def expected_files() -> dict[str, bytes]:
    return {
        f"{name}/{path.name}": path.read_bytes()
        for name, folder in SOURCES.items()
        for path in folder.iterdir()
    }


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_export_writes_rules_dashboards_and_runbooks(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    result = invoke("export", str(target))
    expected = expected_files()
    assert result.exit_code == 0, result.output
    assert result.output == f"wrote {len(expected)} files to {target}\n"
    assert files_in(target) == expected
    assert {"alerts/celery-vitals.rules.yml", "dashboards/celery-vitals-overview.json"} <= set(
        expected
    )
    assert "runbooks/CeleryBrokerDown.md" in expected


def test_export_twice_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        assert invoke("export", str(tmp_path)).exit_code == 0
    assert files_in(tmp_path) == expected_files()


def test_export_keeps_files_that_differ(tmp_path: Path) -> None:
    edited = tmp_path / "alerts" / "celery-vitals.rules.yml"
    edited.parent.mkdir()
    edited.write_text("edited")
    assert one_line(invoke("export", str(tmp_path))) == (
        f"DIR: 1 existing file differs: {edited} (use --force to overwrite)"
    )
    assert files_in(tmp_path) == {"alerts/celery-vitals.rules.yml": b"edited"}
    assert invoke("export", "--force", str(tmp_path)).exit_code == 0
    assert files_in(tmp_path) == expected_files()


@pytest.mark.parametrize(
    ("blocked", "problem"),
    [("", "Not a directory"), ("alerts", "File exists"), ("dashboards", "File exists")],
)
def test_export_into_a_file_is_one_line(tmp_path: Path, blocked: str, problem: str) -> None:
    target = tmp_path / "target"
    (target / blocked).parent.mkdir(exist_ok=True)
    (target / blocked).write_text("a file")
    shown = one_line(invoke("export", "--force", str(target)))
    assert shown.startswith("DIR: cannot access ")
    assert shown.endswith(f": {problem}")
    assert (target / blocked).read_text() == "a file"


def test_export_over_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "alerts" / "celery-vitals.rules.yml").mkdir(parents=True)
    assert one_line(invoke("export", str(tmp_path))).endswith("rules.yml: Is a directory")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Missing argument 'DIR'."),
        (["a", "b"], "unexpected argument (usage: vitals export [OPTIONS] DIR)"),
        (["--forced", "a"], "No such option '--forced'"),
    ],
)
def test_wrong_usage_of_export_is_one_line(args: list[str], message: str) -> None:
    assert one_line(invoke("export", *args)).startswith(message)


# A wheel


def run(*command: object, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module", params=["checkout", "sdist"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from the checkout, directly or by way of an sdist."""
    folder, source = tmp_path_factory.mktemp("wheel"), ROOT
    if request.param == "sdist":
        run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
        run("tar", "-xzf", next(folder.glob("*.tar.gz")), "-C", folder)
        source = folder / f"celery_vitals-{__version__}"
    code = f"import os; os.chdir({str(source)!r}); from hatchling.build import build_wheel as build"
    run(sys.executable, "-c", f"{code}; build({str(folder)!r})")
    return next(folder.glob("*.whl"))


def test_wheel_contains_the_program_and_the_exported_files_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = run("git", "ls-files", "exporter/celery_vitals").stdout.split()
    program = {name.removeprefix("exporter/") for name in tracked}
    assert names == program | {f"celery_vitals/assets/{name}" for name in expected_files()}


def test_export_from_an_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment)
    python = environment / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", "--quiet", wheel]
    run(sys.executable, "-m", "pip", "--python", python, *install)
    program = environment / "bin" / "celery-vitals"
    dependencies = ":".join(path for path in sys.path if path.endswith("site-packages"))
    run(program, "export", tmp_path / "out", PYTHONPATH=dependencies)
    assert files_in(tmp_path / "out") == expected_files()
