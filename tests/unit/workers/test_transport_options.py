"""Transport options that workers report: those that name keys, without malformed or secret ones."""

from __future__ import annotations

from typing import Any

import pytest

from celery_vitals.workers.registry import WorkerRegistry
from celery_vitals.workers.stats import Stats


def reply(options: Any) -> dict[str, Any]:
    return {"pool": {"processes": [1]}, "pid": 1, "broker": {"transport_options": options}}


@pytest.mark.parametrize(
    ("reported", "used"),
    [
        ({}, {}),
        ({"sep": ":", "priority_steps": [0, 5]}, {"sep": ":", "priority_steps": [0, 5]}),
        ({"sep": "", "priority_steps": []}, {}),
        ({"sep": 5, "priority_steps": "text", "unacked_key": None}, {}),
        ({"sep": "x" * 1000, "priority_steps": [0] * 1000}, {}),
        ({"priority_steps": [0, "3"], "visibility_timeout": "12h"}, {}),
        ({"priority_steps": [0, True], "visibility_timeout": 0}, {}),
        ({"visibility_timeout": 7200, "ack_emulation": False}, None),
        ({"sentinel_kwargs": {"password": "s3cret"}, "client_name": "x"}, {}),
        ([], "unknown"),
        (None, "unknown"),
    ],
)
def test_plausible_options_that_name_keys_are_used(reported: Any, used: Any) -> None:
    stats = Stats.parse(reply(reported))
    assert stats is not None
    expected = None if used == "unknown" else reported if used is None else used
    assert stats.transport_options == expected


def test_each_is_returned_once_and_the_last_are_kept_without_workers() -> None:
    registry = WorkerRegistry(60.0, 61.0)
    assert registry.transport_options() == ()
    for name, options in (("a", {}), ("b", {"sep": ":"}), ("c", {"sep": ":"}), ("d", None)):
        registry.stats_replied(f"{name}@h", reply(options), 0.1, late=False)
    assert registry.transport_options() == ({}, {"sep": ":"})
    registry._workers.clear()
    assert registry.transport_options() == ({}, {"sep": ":"})
