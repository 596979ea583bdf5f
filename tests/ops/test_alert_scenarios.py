"""Every alert fires on its fault and resolves, and no alert fires in normal operation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ops.no_alert_scenarios import all_quiet
from tests.support.ops.scenarios import all_scenarios
from tests.support.ops.simulated_cluster import Scenario, run


@pytest.mark.parametrize("scenario", all_scenarios(), ids=lambda scenario: scenario.name)
def test_fault_fires_its_alert_only(scenario: Scenario, tmp_path: Path) -> None:
    assert run(scenario, tmp_path) == ""


@pytest.mark.parametrize("scenario", all_quiet(), ids=lambda scenario: scenario.name)
def test_no_needless_alert(scenario: Scenario, tmp_path: Path) -> None:
    assert run(scenario, tmp_path) == ""
