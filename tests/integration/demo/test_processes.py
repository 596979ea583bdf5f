from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from celery_vitals.demo.processes import ProcessEndedError, Supervisor
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
OWNER = f"""
import os, time
from celery_vitals.demo.processes import Supervisor
with Supervisor() as supervisor:
    supervisor.start("stubborn", {STUBBORN!r}, os.environ)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_leaving_the_block_stops_the_processes_and_removes_the_folder(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        child = supervisor.start("sleeper", SLEEP, os.environ)
        wait_for(lambda: "asleep" in child.log_tail(), 10, "the child process runs")
    assert child.process.returncode == -signal.SIGTERM
    assert not list(tmp_path.iterdir())
    assert not processes_in(tmp_path)


def test_a_process_that_ignores_sigterm_is_killed_with_its_descendants(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        child = supervisor.start("stubborn", STUBBORN, os.environ)
        wait_for(lambda: "asleep" in child.log_tail(), 10, "the child process runs")
        assert len(processes_in(tmp_path)) == 3  # the child, its own child, the reaper
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert child.process.returncode == -signal.SIGKILL
    wait_for(lambda: not processes_in(tmp_path), 2, "no process remains")


def test_the_broker_stops_after_the_other_processes(tmp_path: Path) -> None:
    order = tmp_path / "order"
    program = (
        "import signal, sys, time\n"
        "def stop(*_): open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, stop); print('asleep', flush=True); time.sleep(60)"
    )
    with Supervisor() as supervisor:
        command = (sys.executable, "-c", program, str(order))
        first = supervisor.start("broker", (*command, "broker"), os.environ, stops_last=True)
        second = supervisor.start("worker", (*command, "worker "), os.environ)
        wait_for(
            lambda: "asleep" in first.log_tail() and "asleep" in second.log_tail(), 10, "both run"
        )
    assert order.read_text() == "worker broker"


def test_a_process_that_ends_is_reported_with_the_end_of_its_log() -> None:
    with Supervisor() as supervisor:
        child = supervisor.start(
            "worker", (sys.executable, "-c", "print('no such queue'); exit(3)"), os.environ
        )
        child.process.wait(10)
        with pytest.raises(
            ProcessEndedError,
            match=r"worker exited with code 3; end of its log:\n    no such queue",
        ):
            supervisor.check()


def test_a_missing_command_is_named_in_the_error() -> None:
    def start(supervisor: Supervisor) -> None:
        """Whether the start or the check fails depends on the platform."""
        supervisor.start("broker", ("/nowhere/redis-server",), os.environ).process.wait(10)
        supervisor.check()

    with (
        Supervisor() as supervisor,
        pytest.raises(
            ProcessEndedError, match=r"(cannot start broker|broker exited)[\s\S]*No such file"
        ),
    ):
        start(supervisor)


def test_text_is_the_standard_input_of_the_process() -> None:
    with Supervisor() as supervisor:
        child = supervisor.start(
            "cat", (sys.executable, "-c", "print(input())"), os.environ, text="port 1\n"
        )
        wait_for(lambda: "port 1" in child.log_tail(), 10, "the child process has read it")


def test_after_sigkill_of_the_owner_no_process_and_no_file_remains(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        wait_for(
            lambda: len(processes_in(tmp_path)) == 4, 10, "owner, reaper, child and its child run"
        )
    finally:
        owner.kill()
        owner.wait()
    wait_for(lambda: not processes_in(tmp_path), 5, "no process remains")
    wait_for(lambda: not list(tmp_path.iterdir()), 5, "the folder is removed")
