"""Every alert fires when it should and clears when that is over, and none fires on a good day."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ops.no_alert_scenarios import no_alert_scenarios
from tests.support.ops.scenarios import all_scenarios
from tests.support.ops.simulated_cluster import Scenario, run


@pytest.mark.parametrize("scenario", all_scenarios(), ids=lambda scenario: scenario.name)
def test_alert_scenarios_fire_and_clear(scenario: Scenario, tmp_path: Path) -> None:
    assert run(scenario, tmp_path) == ""


@pytest.mark.parametrize("scenario", no_alert_scenarios(), ids=lambda scenario: scenario.name)
def test_no_alert_scenarios_stay_silent(scenario: Scenario, tmp_path: Path) -> None:
    assert run(scenario, tmp_path) == ""
