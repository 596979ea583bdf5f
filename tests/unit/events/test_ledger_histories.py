"""The books after any history of one task id: always closed, never negative, without an error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.scene import Scene
from tests.support.simulation.books import Books

UUID = "0f3b4cde-6b0a-4a55-9c5e-0d1f2a3b4c5d"
WORKERS = ("w@one", "v@two")
KINDS = (
    "task-sent",
    "task-received",
    "task-started",
    "task-succeeded",
    "task-failed",
    "task-retried",
    "task-revoked",
    "task-rejected",
    "task-cancelled",
    "worker-heartbeat",
    "worker-online",
    "worker-offline",
)

event = st.fixed_dictionaries(
    {
        "type": st.sampled_from(KINDS),
        "hostname": st.sampled_from(WORKERS),
        "pid": st.sampled_from([10, 10, 10, 11]),
        "offset": st.sampled_from([0.0, 0.0, 0.0, -0.5, 0.5, 7200.0, -7200.0]),
    },
    optional={
        "name": st.sampled_from(["add", "mul"]),
        "queue": st.sampled_from(["q", "r"]),
        "retries": st.integers(0, 2),
        "active": st.integers(0, 2),
        "processed": st.integers(0, 4),
        "runtime": st.floats(0, 100),
        "exception": st.sampled_from(
            ["ValueError('x')", "WorkerLostError('x')", "NotRegistered('x')"]
        ),
        "requeue": st.booleans(),
        "terminated": st.booleans(),
        "expired": st.booleans(),
    },
)
step = (
    st.tuples(st.just("send"), event)
    | st.tuples(st.just("send"), event)
    | st.tuples(st.just("again"), st.integers(0, 9))
    | st.tuples(st.just("pass"), st.sampled_from([0.1, 3.0, 31.0, 130.0, 4000.0]))
    | st.tuples(st.just("gap"), st.none())
    | st.tuples(st.just("empty"), st.none())
)


class History:
    """Feeds steps to a scene."""

    def __init__(self, **limits: Any) -> None:
        self.scene = Scene(idle_after=1e9, **limits)
        for worker in WORKERS:
            self.scene.consumes(worker, "q", "r")
        self.sent: list[bytes] = []

    def do(self, what: str, subject: Any) -> None:
        scene = self.scene
        scene.now += 0.01
        if what == "send":
            fields = dict(subject)
            fields["timestamp"] = scene.now + fields.pop("offset")
            self.sent.append(json.dumps({"uuid": UUID, **fields}).encode())
            scene.feed(self.sent[-1])
        elif what == "again" and self.sent:
            scene.feed(self.sent[-1 - subject % len(self.sent)])
        elif what == "pass":
            scene.idle(subject)
        elif what == "gap":
            scene.processor.connected()
        elif what == "empty":
            scene.processor.compare_with_broker({}, ("q", "r"), scene.now)

    def check(self) -> None:
        """Check that the books are closed."""
        samples = self.scene.samples()
        negative = {key: value for key, value in samples.items() if value < 0}
        assert not {key for key in negative if "clock_offset" not in key[0]}, negative
        books = Books(samples)
        total = books.balance() - books.unknown()
        assert total == 0, (total, {key: value for key, value in books.values.items() if value})


relaxed = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@example(
    steps=[  # the worker of the second execution is forgotten when the first one is decided
        ("send", {"type": "task-sent", "hostname": "w@one", "pid": 10, "offset": 0.0}),
        ("send", {"type": "task-started", "hostname": "w@one", "pid": 10, "offset": 0.0}),
        ("send", {"type": "task-started", "hostname": "w@one", "pid": 11, "offset": 0.0}),
        ("pass", 4000.0),
    ]
)
@given(st.lists(step, max_size=25))
def test_books_are_closed_after_any_history_of_one_task_id(steps: list[tuple[str, Any]]) -> None:
    history = History()
    for what, subject in steps:
        history.do(what, subject)
        history.check()
    history.scene.idle(20_000)
    history.check()
