"""The caches and the results that they keep."""

from __future__ import annotations

import time

import pytest

from celery_vitals import CheckResult, MemoryCache
from celery_vitals.integrations.results import Report, decode
from tests.support.servers import wait_for


def test_report_survives_a_cache() -> None:
    checks = {"broker": CheckResult(True, 0.25), "workers": CheckResult(None, error="why")}
    report = Report({"status": "healthy", "findings": []}, checks)
    assert decode(report.encode(1.5)) == (report, 1.5)


def test_memory_returns_a_value_with_its_age_until_it_expires() -> None:
    cache = MemoryCache()
    assert cache.read("a") is None
    cache.write("a", b"x", 0.2)
    time.sleep(0.05)
    found = cache.read("a")
    assert found is not None
    assert found[0] == b"x"
    assert 0.05 <= found[1] < 0.2
    assert cache.read("b") is None
    wait_for(lambda: cache.read("a") is None)


def test_result_has_no_status_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="fine"):
        _ = CheckResult(False, severity="fine").status
