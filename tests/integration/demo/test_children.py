from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celery_vitals.demo.children import ChildDiedError, Household
from tests.support.demo import processes_in, wait_for

SLEEP = (sys.executable, "-c", "import time; print('asleep', flush=True); time.sleep(60)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print('asleep', flush=True); time.sleep(60)",
)
HOLDER = f"""
import os, time
from celery_vitals.demo.children import Household
with Household() as household:
    household.start("stubborn", {STUBBORN!r}, os.environ)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_leaving_stops_the_children_and_removes_the_folder(tmp_path: Path) -> None:
    with Household() as household:
        child = household.start("sleeper", SLEEP, os.environ)
        wait_for(lambda: "asleep" in child.log_tail(), 10, "the child runs")
    assert child.process.returncode == -signal.SIGTERM
    assert not list(tmp_path.iterdir())
    assert not processes_in(tmp_path)


def test_who_ignores_sigterm_is_killed_with_what_it_started(tmp_path: Path) -> None:
    with Household() as household:
        child = household.start("stubborn", STUBBORN, os.environ)
        wait_for(lambda: "asleep" in child.log_tail(), 10, "the child runs")
        assert len(processes_in(tmp_path)) == 3  # the child, its own child, the guard
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert child.process.returncode == -signal.SIGKILL
    wait_for(lambda: not processes_in(tmp_path), 2, "nothing runs any more")


def test_the_last_one_stops_after_the_others(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = (
        "import signal, sys, time\n"
        "def stop(*_): open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('asleep', flush=True); time.sleep(60)"
    )
    with Household() as household:
        command = (sys.executable, "-c", program, str(order))
        first = household.start("broker", (*command, "broker"), os.environ, stops_last=True)
        second = household.start("worker", (*command, "worker "), os.environ)
        wait_for(
            lambda: "asleep" in first.log_tail() and "asleep" in second.log_tail(), 10, "both run"
        )
    assert order.read_text() == "worker broker"


def test_a_child_that_dies_is_told_with_its_last_words() -> None:
    with Household() as household:
        child = household.start(
            "worker", (sys.executable, "-c", "print('no such queue'); exit(3)"), os.environ
        )
        child.process.wait(10)
        with pytest.raises(
            ChildDiedError,
            match=r"worker ended with exit code 3; its last words:\n    no such queue",
        ):
            household.check()


def test_a_command_that_does_not_exist_is_told() -> None:
    def start(household: Household) -> None:
        """Whether it is noticed at once or a little later depends on the platform."""
        household.start("broker", ("/nowhere/redis-server",), os.environ).process.wait(10)
        household.check()

    with (
        Household() as household,
        pytest.raises(ChildDiedError, match=r"broker (cannot|ended)[\s\S]*No such file"),
    ):
        start(household)


def test_standard_input_reaches_the_child() -> None:
    with Household() as household:
        child = household.start(
            "cat", (sys.executable, "-c", "print(input())"), os.environ, text="port 1\n"
        )
        wait_for(lambda: "port 1" in child.log_tail(), 10, "the child has read it")


def test_when_the_owner_is_killed_nothing_is_left(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLDER], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        wait_for(
            lambda: len(processes_in(tmp_path)) == 4, 10, "owner, guard, child and its child run"
        )
    finally:
        owner.kill()
        owner.wait()
    wait_for(lambda: not processes_in(tmp_path), 5, "nothing runs any more")
    wait_for(lambda: not list(tmp_path.iterdir()), 5, "the folder is removed")
