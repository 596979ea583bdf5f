"""Fixtures of the registry's tests."""

from __future__ import annotations

import pytest

from tests.support.worker_farm import Clock, Farm


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def farm(clock: Clock) -> Farm:
    return Farm(clock)
