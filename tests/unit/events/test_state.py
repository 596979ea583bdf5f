"""The state of the events across restarts: the same as without a restart, whenever it ended."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_vitals.events.persistence import Persistence
from celery_vitals.events.state_file import StateIdentity
from tests.support.scene import WORKER, Scene
from tests.unit.events.test_fuzz import Fuzz, action

IDENTITY = StateIdentity("one", ())
NEVER = {"idle_after": 1e9, "forget_after": 1e9}
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Restarts:
    """A scene whose exporter is killed and starts again, with a state file."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "state"
        self._options = options
        self.scene = Scene(**options)
        self.start()

    def start(self) -> None:
        scene = self.scene
        scene.sink = self.persistence = Persistence(
            scene.processor, self.path, IDENTITY, clock=lambda: scene.now
        )
        assert self.persistence.load()

    def __enter__(self) -> Restarts:
        return self

    def __exit__(self, *_: object) -> None:
        self.persistence.release()

    def kill(self) -> None:
        """End it without a last snapshot, and start another one."""
        before = self.scene
        self.persistence.release()
        self.scene = Scene(**self._options, registry=before.registry)
        self.scene.now = before.now
        self.start()


def is_ordinary(action: tuple[str, Any]) -> bool:
    """Whether its events have no text or number that MessagePack cannot contain."""
    text = json.dumps(action[1]) if action[0] == "send" else ""
    return "\\ud" not in text and "0" * 20 not in text


actions = st.lists(action.filter(is_ordinary), max_size=30)


@relaxed
@given(actions, st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_a_restart_changes_nothing(
    actions: list[tuple[str, Any]], kills: set[int], snapshots: set[int]
) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Restarts(Path(folder), **NEVER) as restarts,
    ):
        steady = Fuzz(Scene(**NEVER))
        restarted = Fuzz(restarts.scene)
        for one in (steady, restarted):
            one.scene.consumes(WORKER, "q")
        for number, (what, subject) in enumerate(actions):
            if number in snapshots:
                restarts.persistence.write_snapshot()
            if number in kills:
                restarts.kill()
                restarted.scene = restarts.scene
            for one in (steady, restarted):
                one.do(what, subject)
        for one in (steady, restarted):
            one.scene.idle(3)
        assert restarted.scene.samples() == steady.scene.samples()
