"""The state of the events across restarts: the same as without a restart, whenever it ended."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_vitals.events import executions_copy, persistence
from celery_vitals.events.persistence import Persistence
from celery_vitals.events.state_file import (
    FrameReader,
    SnapshotWriter,
    StateIdentity,
    frame,
    start_of,
)
from tests.support.scene import WORKER, Scene
from tests.unit.events.test_fuzz import Fuzz, action

IDENTITY = StateIdentity("one", ())
NEVER: dict[str, Any] = {"idle_after": 1e9, "forget_after": 1e9}
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]
relaxed = settings(max_examples=30, deadline=None, suppress_health_check=SLOW)


class Restarts:
    """A scene whose exporter is killed and starts again, with a state file."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "state"
        self.max_age = math.inf
        self._options = options
        self.scene = Scene(**options)
        self.start()

    def start(self) -> None:
        scene = self.scene
        scene.sink = self.persistence = Persistence(
            scene.processor,
            self.path,
            IDENTITY,
            max_age=self.max_age,
            clock=lambda: scene.now,
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


def recognize_the_same(steady: Scene, restarted: Scene) -> None:
    """After a restart, only the messages of the journal are recognized when they arrive twice."""
    steady.processor._repetitions = deepcopy(restarted.processor._repetitions)


def is_ordinary(action: tuple[str, Any]) -> bool:
    """Whether its events have no text or number that MessagePack cannot contain, and no ETA in the
    past: a task with one counts as waiting after a restart only."""
    text = json.dumps(action[1]) if action[0] == "send" else ""
    return "\\ud" not in text and "0" * 20 not in text and "T08:00:00" not in text


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
                recognize_the_same(steady.scene, restarted.scene)
            for one in (steady, restarted):
                one.do(what, subject)
        for one in (steady, restarted):
            one.scene.idle(3)
        assert restarted.scene.samples() == steady.scene.samples()


def interleaved(
    restarts: Restarts, monkeypatch: pytest.MonkeyPatch, during: list[Callable[[], None]]
) -> None:
    """Write a snapshot, and between its frames let something else happen."""

    class Writer(SnapshotWriter):
        def add(self, content: bytes) -> None:
            super().add(content)
            if during:
                during.pop(0)()

    monkeypatch.setattr(persistence, "SnapshotWriter", Writer)
    monkeypatch.setattr(executions_copy, "_SLICE", 1)
    restarts.persistence.write_snapshot()
    monkeypatch.undo()
    assert not during


@relaxed
@given(
    st.lists(action.filter(is_ordinary), max_size=15),
    st.lists(action.filter(is_ordinary).filter(lambda one: one[0] != "pass"), max_size=20),
)
def test_a_snapshot_is_of_one_moment(
    before: list[tuple[str, Any]], during: list[tuple[str, Any]]
) -> None:
    """Whatever happens while its executions are copied: the journal has that."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Restarts(Path(folder), **NEVER) as restarts,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        steady, restarted = Fuzz(Scene(**NEVER)), Fuzz(restarts.scene)
        for one in (steady, restarted):
            one.scene.consumes(WORKER, "q")
            for number in range(20):
                one.scene.sent(f"w{number}")
            for what, subject in before:
                one.do(what, subject)

        def both(what: str, subject: Any) -> None:
            for one in (steady, restarted):
                one.do(what, subject)

        interleaved(restarts, monkeypatch, [partial(both, *one) for one in during])
        restarts.kill()
        restarted.scene = restarts.scene
        for one in (steady, restarted):
            one.scene.idle(3)
        assert restarted.scene.samples() == steady.scene.samples()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def journal_of(path: Path) -> Path:
    (journal,) = path.parent.glob("*journal*")
    return journal


def rewrite(path: Path, **changes: Any) -> None:
    """Change the header of a file, with a checksum that is right."""
    with path.open("rb") as file:
        reader = FrameReader(file)
        frames = list(reader)
    header = msgspec.structs.replace(reader.header, **changes)
    path.write_bytes(start_of(header) + b"".join(map(frame, frames)))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (cut, "it is cut"),
    "cut within its header": (lambda path: path.write_bytes(path.read_bytes()[:40]), "it is cut"),
    "damaged": (damage, "it is damaged"),
    "empty": (lambda path: path.write_bytes(b""), "it is not a state file"),
    "another file": (lambda path: path.write_bytes(b"x" * 9000), "it is not a state file"),
    "another cluster": (partial(rewrite, cluster="two"), "it is the state of another cluster"),
    "other labels": (partial(rewrite, labels=("worker",)), "its task series have other labels"),
    "a newer version": (partial(rewrite, format=2, version="9.0.0"), "written by version 9.0.0"),
    "without its journal": (
        lambda path: journal_of(path).unlink(),
        "a part of its journal is missing",
    ),
    "a damaged journal": (
        lambda path: damage(journal_of(path)),
        "it is damaged",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_not_used(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil, reason = BAD[kind]
    with Restarts(tmp_path) as restarts:
        restarts.scene.run("one")
        restarts.persistence.write_snapshot()
        restarts.scene.run("two")
        spoil(restarts.path)
        caplog.clear()
        restarts.kill()
        assert restarts.scene.task(queue="unknown") == {}
        (line,) = [one.getMessage() for one in caplog.records]
        assert line.startswith(f"the state in {restarts.path} is not used: ")
        assert reason in line
        restarts.scene.run("three")
        restarts.kill()
        assert restarts.scene.total("task_succeeded_total") == 1


def test_a_message_is_recognized_when_it_arrives_again_after_a_restart(tmp_path: Path) -> None:
    with Restarts(tmp_path) as restarts:
        body = json.dumps(restarts.scene.event("task-started", "u")).encode()
        restarts.scene.feed(body)
        restarts.kill()
        restarts.scene.feed(body)
        assert restarts.scene.total("task_started_total") == 1


@pytest.mark.parametrize("kind", ["task-failed", "task-revoked"])
def test_a_deferred_end_is_counted_once_after_a_restart(tmp_path: Path, kind: str) -> None:
    with Restarts(tmp_path) as restarts:
        restarts.scene.sent("other")
        restarts.scene.send(kind, "u", exception="E()", expired=True)
        restarts.persistence.write_snapshot()
        restarts.kill()
        restarts.scene.idle(3)
        restarts.scene.idle(3)
        assert restarts.scene.total(kind.replace("task-", "task_") + "_total") == 1


def test_a_late_received_event_is_recognized_after_a_restart(tmp_path: Path) -> None:
    with Restarts(tmp_path) as restarts:
        restarts.scene.sent("u")
        received = restarts.scene.event("task-received", "u", name="add")
        restarts.scene.started("u")
        restarts.persistence.write_snapshot()
        restarts.kill()
        restarts.scene.succeeded("u")
        restarts.scene.feed(json.dumps(received).encode())
        restarts.scene.idle(10)
        assert restarts.scene.task() == dict.fromkeys(
            ("sent", "received", "started", "succeeded"), 1
        )
        assert restarts.scene.total("task_in_flight") == 0


def test_a_record_that_was_cut_was_not_processed(tmp_path: Path) -> None:
    with Restarts(tmp_path) as restarts:
        restarts.scene.run("one")
        cut(journal_of(restarts.path))
        restarts.kill()
        assert restarts.scene.total("task_started_total") == 1
        assert restarts.scene.total("task_succeeded_total") == 0


def test_an_old_state_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Restarts(tmp_path) as restarts:
        restarts.max_age = 3600.0
        restarts.scene.run("one")
        restarts.scene.now += 3599
        restarts.kill()
        assert restarts.scene.total("task_succeeded_total") == 1
        restarts.scene.now += 3601
        restarts.kill()
        assert restarts.scene.total("task_succeeded_total") == 0
        assert "it is older than 3600 s" in caplog.text


def test_another_process_keeps_its_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(persistence, "_LOCK_TIMEOUT", 0.0)
    with Restarts(tmp_path) as restarts:
        restarts.scene.run("one")
        second = Scene()
        second.sink = other = Persistence(second.processor, restarts.path, IDENTITY)
        assert not other.load()
        second.run("two")
        other.write_snapshot()
        assert "another process uses it" in caplog.text
        restarts.kill()
        assert restarts.scene.total("task_succeeded_total") == 1


def test_a_state_that_cannot_be_written_is_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is older than what was scraped would make the counters decrease."""
    caplog.set_level("INFO")
    with Restarts(tmp_path) as restarts:
        restarts.scene.run("one")

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.write", full)
            restarts.scene.run("two")
            restarts.scene.run("three")
        assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == [
            f"cannot write the state to {restarts.path}: No space left on device"
        ]
        assert not restarts.path.exists()
        assert restarts.scene.total("task_succeeded_total") == 3
        restarts.persistence.write_snapshot()
        assert f"the state is written to {restarts.path} again" in caplog.text
        restarts.scene.run("four")
        restarts.kill()
        assert restarts.scene.total("task_succeeded_total") == 4


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    with Restarts(tmp_path):
        modes = {one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
        assert len(list(tmp_path.iterdir())) == 3
        assert modes == {0o600}
