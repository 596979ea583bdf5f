"""Every alert fires when it should and clears when that is over, and none fires on a good day."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ops.quiet import all_quiet
from tests.support.ops.scenarios import all_scenarios
from tests.support.ops.world import Scenario, run


@pytest.mark.parametrize("scenario", all_scenarios(), ids=lambda scenario: scenario.name)
def test_what_happens_and_which_alerts_fire(scenario: Scenario, tmp_path: Path) -> None:
    assert run(scenario, tmp_path) == ""


@pytest.mark.parametrize("scenario", all_quiet(), ids=lambda scenario: scenario.name)
def test_nobody_is_woken_without_need(scenario: Scenario, tmp_path: Path) -> None:
    assert run(scenario, tmp_path) == ""
