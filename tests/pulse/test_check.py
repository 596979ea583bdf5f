"""The command of liveness probes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celery_vitals_pulse.check import main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "heartbeat"
    path.write_text("pid=1 interval=10\n")
    return path


def aged(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


@pytest.mark.parametrize(
    ("age", "options", "code"),
    [
        (0, [], 0),
        (25, [], 0),  # three intervals of the process, which the file names
        (35, [], 1),
        (35, ["--max-age", "40"], 0),
        (5, ["--max-age=4"], 1),
        (-1000, [], 1),
    ],
)
def test_age_decides(
    file: Path, age: float, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    aged(file, age)
    assert main(["check", "--file", str(file), *options]) == code
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    assert line.startswith("stale: " if code else "fresh: ")


def test_missing_file_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--file", str(tmp_path / "none")]) == 1
    assert main(["check", "--file", str(tmp_path / "none-{pid}")]) == 1
    assert capsys.readouterr().out.count("stale: no file") == 2


def test_file_without_an_interval_has_the_default(tmp_path: Path) -> None:
    path = tmp_path / "touched"
    path.touch()
    aged(path, 170)
    assert main(["check", "--file", str(path)]) == 0
    aged(path, 190)
    assert main(["check", "--file", str(path)]) == 1


def test_placeholders_check_every_process(tmp_path: Path) -> None:
    for pid in (1, 2):
        (tmp_path / f"w-{pid}").write_text("interval=10")
    pattern = str(tmp_path / "w-{pid}")
    assert main(["check", "--file", pattern]) == 0
    aged(tmp_path / "w-2", 60)
    assert main(["check", "--file", pattern]) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "no command"),
        (["chek"], "'chek'"),
        (["check", "--fil", "x"], "'--fil'"),
        (["check", "--file"], "--file"),
        (["check", "--max-age", "soon"], "'soon'"),
        (["check", "--max-age", "nan"], "'nan'"),
        (["check", "--max-age", "-1"], "'-1'"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_command_costs_little_and_imports_no_celery(file: Path) -> None:
    program = (
        "import sys, runpy; sys.argv = ['pulse', 'check', '--file', sys.argv[1]]\n"
        "try: runpy.run_module('celery_vitals_pulse', run_name='__main__')\n"
        "finally: assert not {'celery', 'kombu', 'argparse', 'logging'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=True)
    folder = Path(__file__).parents[2] / "pulse"
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        argv = [sys.executable, "-S", "-m", "celery_vitals_pulse", "check", "--file", str(file)]
        subprocess.run(argv, check=True, env={"PYTHONPATH": str(folder)}, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) < 0.05
