"""The command `check` on a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

from tests.support.health_documents import document, finding
from tests.unit.cli.test_check import answer, exporter


def on_terminal(*arguments: str, **variables: str) -> str:
    """Run the command with a terminal as output; return what it writes there."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    if "NO_COLOR" not in variables:
        environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "celery_vitals", "check", *arguments]
    with subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment) as child:
        os.close(terminal)
        written = b""
        try:
            while chunk := os.read(controller, 4096):
                written += chunk
        except OSError:  # the child has closed the terminal
            pass
        os.close(controller)
        child.wait(30)
    return written.decode()


def slow_answer(request: object) -> None:
    time.sleep(0.6)
    answer(document("degraded", findings=[finding(severity="degraded")]))(request)  # type: ignore[arg-type]


def test_terminal_shows_colours_and_a_spinner_while_it_waits() -> None:
    with exporter(slow_answer) as url:
        text = on_terminal("--url", url)
    assert "\x1b[33mdegraded: 1 finding\x1b[0m" in text
    before, _, after = text.partition("degraded: 1 finding")
    assert "checking" in before
    assert "checking" not in after


def test_quick_check_shows_no_spinner() -> None:
    with exporter(answer(document())) as url:
        assert on_terminal("--url", url, "--timeout", "20").startswith("\x1b[32mhealthy")


def test_no_color() -> None:
    with exporter(answer(document("degraded"))) as url:
        assert "\x1b" not in on_terminal("--url", url, NO_COLOR="1")


def test_terminal_that_cannot_move_the_cursor_shows_no_spinner() -> None:
    with exporter(slow_answer) as url:
        assert "checking" not in on_terminal("--url", url, TERM="dumb")
