"""Any events in any order: no crash, no unbounded state, and no invalid sample."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from celery_vitals.events.kwarg_label import KwargLabel
from tests.support.scene import NOW, PRODUCER, WORKER, Scene

KINDS = (
    "sent",
    "received",
    "started",
    "succeeded",
    "failed",
    "retried",
    "revoked",
    "rejected",
    "cancelled",
)
EXACT = ("sent", "received", "started", "retried")
"""Kinds whose every event counts, whichever other events arrive."""
NAMES = [
    "add",
    "mul",
    "sub",
    None,
    "",
    "\ud800",
    "x" * 300,
    "é\n",
    *(f"shadow{i}" for i in range(20)),
]
QUEUES = ["q", "r", None, "", "\udfff", *(f"flood{i}" for i in range(20))]
HOSTS = [WORKER, "v@three", PRODUCER, "\ud83d", "h", *(f"w@{i}" for i in range(20))]
OFFSETS = [0.0] * 6 + [0.3, -0.3, 7200, -7200, -NOW, 3e9, 1e300]
GARBAGE = [
    b"",
    b"[]",
    b"{}",
    b"null",
    b"[1]",
    b"\xff",
    b'{"type":"task-sent"}',
    b'{"type":"x","hostname":"h"}',
    b"[" * 5000,
]

few = st.integers(0, 7)
event = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                *(f"task-{kind}" for kind in KINDS),
                "worker-heartbeat",
                "worker-online",
                "worker-offline",
            ]
        ),
        "hostname": st.sampled_from(HOSTS),
        "uuid": few.map("u{}".format) | st.uuids().map(str) | st.sampled_from(["", "\ud800"]),
        "offset": st.sampled_from(OFFSETS),
    },
    optional={
        "name": st.sampled_from(NAMES),
        "queue": st.sampled_from(QUEUES),
        "retries": st.none() | st.integers(-1, 3) | st.just(10**30),
        "eta": st.sampled_from(
            [
                None,
                "2027-01-15T08:00:00+00:00",
                "2027-01-15T08:10:00",
                "9999-12-31T23:59:59.999999-23:59",
                "x",
            ]
        ),
        "utcoffset": st.none() | st.sampled_from([0, 5.0, -5.5, 1e308, -1e308]),
        "pid": st.none() | st.integers(1, 2),
        "active": st.none() | st.integers(-1, 3),
        "processed": st.none() | st.integers(-5, 30) | st.just(10**25),
        "runtime": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "exception": st.none()
        | st.sampled_from(
            ["ValueError('x')", "reject requeue=False: x", "x", *(f"E{i}()" for i in range(30))]
        ),
        "traceback": st.none() | st.text(max_size=5),
        "kwargs": st.none()
        | st.sampled_from(
            ["{'customer': 'a'}", "{'customer': '\ud800'}", "{'customer': 1, 'b': 2}", "{"]
        ),
        "expired": st.none() | st.booleans(),
        "terminated": st.none() | st.booleans(),
        "requeue": st.none() | st.booleans(),
    },
)
action = (
    st.tuples(st.just("send"), st.lists(event, min_size=1, max_size=3))
    | st.tuples(st.just("send"), st.lists(event, min_size=1, max_size=3))
    | st.tuples(st.just("repeat"), few)
    | st.tuples(st.just("garbage"), st.sampled_from(GARBAGE) | st.binary(max_size=20))
    | st.tuples(st.just("pass"), st.sampled_from([0.1, 1.0, 6.0, 61.0, 400.0]))
)


class Fuzz:
    """Performs actions on a scene, and counts the accepted events independently."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.sent: list[bytes] = []
        self.accepted: Counter[str] = Counter()
        self.before: dict[Any, float] = {}
        self.own_series = 0
        """Peak number of series that are not aggregated, which the limits bound."""

    def do(self, what: str, subject: Any) -> None:
        scene = self.scene
        scene.now += 0.01
        if what == "send":
            self.send(json.dumps([self.event(one) for one in subject]).encode())
        elif what == "repeat" and self.sent:
            before = json.loads(self.sent[-1 - subject % len(self.sent)])
            self.send(json.dumps([{**one, "clock": len(self.sent)} for one in before]).encode())
        elif what == "garbage":
            scene.feed(subject)
        elif what == "pass":
            scene.idle(subject)

    def event(self, drawn: dict[str, Any]) -> dict[str, Any]:
        fields = dict(drawn)
        clock = len(self.sent)  # no two events of a worker are equal
        return {**fields, "timestamp": self.scene.now + fields.pop("offset"), "clock": clock}

    def send(self, body: bytes) -> None:
        self.sent.append(body)
        self.scene.feed(body)
        self.accepted.update(
            one["type"]
            for one in json.loads(body)
            if one["uuid"] or one["type"].startswith("worker")
        )

    def check(self) -> None:
        """Check what must hold at any moment."""
        scene, samples = self.scene, self.scene.samples()
        for (name, pairs), value in samples.items():
            assert all(isinstance(text, str) and text.encode() is not None for _, text in pairs)
            assert math.isfinite(value), (name, pairs, value)
            if name not in ("celery_worker_clock_offset_seconds", "celery_task_without_sent_event"):
                assert value >= 0, (name, pairs, value)
            if name.endswith(("_total", "_bucket", "_count", "_sum")):
                assert value >= self.before.get((name, pairs), 0), (name, pairs)
        self.before = samples
        assert list(text_string_to_metric_families(scene.text()))
        assert scene.missing() == scene.unknown()
        for _, since in scene.tasks.waiting.oldest():
            assert math.isfinite(since)

    def check_bounds(self, max_tasks: int, capacity: int, max_workers: int) -> None:
        tasks, index, workers = self.scene.tasks, self.scene.index, self.scene.processor._workers
        assert len(tasks) <= max_tasks
        assert len(tasks.deferred) <= max_tasks
        assert len(index._names) <= capacity
        own = sum(not series.aggregated for series in index._series.values())
        self.own_series = max(self.own_series, own)
        assert len(index._series) <= max(capacity, 2 * self.own_series)
        assert len(workers.workers) <= max_workers + 1
        assert len(workers._producers) <= max_workers + 1
        assert sum(len(one.running) for one in workers.workers.values()) <= max_tasks * 2
        for name in ("task_running", "task_received_total", "task_last_sent_timestamp_seconds"):
            assert len(self.scene.labels(name, "task")) <= 5 + 2, name


actions = st.lists(action, max_size=40)
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(actions, st.booleans())
def test_every_event_counts(actions: list[tuple[str, Any]], known: bool) -> None:
    fuzz = Fuzz(Scene(idle_after=1e9, forget_after=1e9))
    if known:
        fuzz.scene.consumes(WORKER, "q")
    for number, (what, subject) in enumerate(actions):
        fuzz.do(what, subject)
        if number % 8 == 0:
            fuzz.check()
    fuzz.scene.idle(3)
    fuzz.check()
    for kind in EXACT:
        assert fuzz.scene.total(f"task_{kind}_total") == fuzz.accepted[f"task-{kind}"], kind
    for kind in ("succeeded", "failed", "revoked", "rejected"):
        assert fuzz.scene.total(f"task_{kind}_total") <= fuzz.accepted[f"task-{kind}"], kind
    for kind, count in fuzz.accepted.items():
        if kind.startswith("task-"):
            assert (fuzz.scene.value("exporter_events_received_total", type=kind) or 0) == count


@relaxed
@given(actions)
def test_all_state_is_bounded(actions: list[tuple[str, Any]]) -> None:
    fuzz = Fuzz(
        Scene(
            max_tasks=10,
            capacity=12,
            max_workers=5,
            forget_after=100,
            idle_after=300,
            caps={"task": 5, "queue": 3, "exception": 3, "worker": 4, "tenant": 2},
            worker_label=True,
            kwarg_label=KwargLabel("tenant", "customer"),
        )
    )
    for what, subject in actions:
        fuzz.do(what, subject)
        fuzz.check_bounds(10, 12, 5)
    fuzz.before = {}
    fuzz.check()
