"""The counters compared with a model.

Only for tasks whose events all arrive in order, from accurate clocks.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.scene import PRODUCER, WORKER, Scene

KINDS = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected")
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FAILURES = ["ValueError", "KeyError"]
ends = st.sampled_from(
    [
        "succeeded",
        "failed",
        "failed twice",
        "revoked",
        "expired",
        "terminated",
        "rejected",
        "ignored",
        "none",
    ]
)
life = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["add", "mul", "sub"]),
        "queue": st.sampled_from(["q", "r"]),
        "retries": st.integers(0, 2),
        "end": ends,
        "exception": st.sampled_from(FAILURES),
        "runtime": st.integers(0, 100_000).map(lambda milliseconds: milliseconds / 1000),
    }
)


def events_of(uuid: str, life: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all events of a task, in order."""
    worker = {"uuid": uuid, "hostname": WORKER, "pid": 10}
    events: list[dict[str, Any]] = []
    for attempt in range(life["retries"] + 1):
        sent = {
            "uuid": uuid,
            "hostname": PRODUCER,
            "name": life["name"],
            "queue": life["queue"],
            "retries": attempt,
        }
        events.append({"type": "task-sent", **sent})
        if life["end"] in {"expired", "revoked"} and attempt == life["retries"]:
            events += [{"type": "task-retried", **worker}] * bool(attempt)
            return [
                *events,
                {"type": "task-revoked", **worker, "expired": life["end"] == "expired"},
            ]
        events.append({"type": "task-received", **worker, "name": life["name"], "retries": attempt})
        events += [{"type": "task-retried", **worker}] * bool(attempt)
        events.append({"type": "task-started", **worker})
    failed = {"type": "task-failed", **worker, "exception": f"{life['exception']}('x')"}
    end: dict[str, list[dict[str, Any]]] = {
        "succeeded": [{"type": "task-succeeded", **worker, "runtime": life["runtime"]}],
        "failed": [failed],
        "failed twice": [failed, failed],
        "terminated": [{"type": "task-revoked", **worker, "terminated": True}],
        "rejected": [{"type": "task-rejected", **worker, "requeue": False}],
    }
    return events + end.get(life["end"], [])


def model(events: list[dict[str, Any]]) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the expected counters, computed from all events of one task after another."""
    counts: dict[str, Counter[tuple[str, ...]]] = {}
    by_uuid: dict[str, list[dict[str, Any]]] = {}
    for one in events:
        by_uuid.setdefault(one["uuid"], []).append(one)
    for story in by_uuid.values():
        labels = (story[0]["name"], story[0]["queue"])
        kinds = [one["type"].removeprefix("task-") for one in story]
        for kind in ("sent", "received", "started", "succeeded", "retried", "rejected"):
            counts.setdefault(kind, Counter())[labels] += kinds.count(kind)
        for one in story:
            if one["type"] == "task-revoked":
                reason = (
                    "terminated"
                    if one.get("terminated")
                    else "expired"
                    if one["expired"]
                    else "revoked"
                )
                key = (*labels, reason)
                counts.setdefault("revoked", Counter())[key] += 1
        failures = [one for one in story if one["type"] == "task-failed"]
        starts = [one["timestamp"] for one in story if one["type"] == "task-started"]
        if failures:
            exception = failures[0]["exception"].partition("(")[0]
            key = (*labels, exception)
            counts.setdefault("failed", Counter())[key] += 1
            counts.setdefault("failed_runtime", Counter())[labels] += (
                failures[0]["timestamp"] - starts[-1]
            )
        sent = [one["timestamp"] for one in story if one["type"] == "task-sent"]
        counts.setdefault("wait", Counter())[labels] += sum(
            start - since for since, start in zip(sent, starts, strict=False)
        )
        counts.setdefault("waits", Counter())[labels] += len(starts)
        counts.setdefault("runtime", Counter())[labels] += sum(
            one.get("runtime", 0) for one in story
        )
        if "started" in kinds and kinds[-1] == "started":
            counts.setdefault("running", Counter())[labels[:1]] += 1
    return {
        kind: {key: round(n, 3) for key, n in values.items() if n}
        for kind, values in counts.items()
        if any(values.values())
    }


METRICS = {
    **{f"celery_task_{kind}_total": kind for kind in KINDS},
    "celery_task_failed_runtime_seconds_sum": "failed_runtime",
    "celery_task_queue_wait_seconds_sum": "wait",
    "celery_task_queue_wait_seconds_count": "waits",
    "celery_task_runtime_seconds_sum": "runtime",
    "celery_task_running": "running",
}


def shown(scene: Scene) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for (name, pairs), value in scene.samples().items():
        if name in METRICS and round(value, 3):
            labels = dict(pairs)
            key = tuple(
                labels[label]
                for label in ("task", "queue", "exception", "reason")
                if label in labels
            )
            found.setdefault(METRICS[name], {})[key] = round(value, 3)
    return found


@relaxed
@given(
    st.lists(life, min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0.5, 3.0, 50.0]),
)
def test_counters_match_a_model(lives: list[dict[str, Any]], random: Any, pace: float) -> None:
    scene = Scene(idle_after=1e9, forget_after=1e9)
    scene.heartbeat(0, 1)
    left = [events_of(f"u{number}", life) for number, life in enumerate(lives)]
    events: list[dict[str, Any]] = []
    while left := [story for story in left if story]:
        story = random.choice(left)
        scene.now += random.choice([0.001, 0.1, pace])
        batch = [{**story.pop(0), "timestamp": scene.now}]
        while story and (
            random.random() < 0.3 or batch[-1]["type"] == story[0]["type"]
        ):  # an end that is reported twice, at once
            batch.append({**story.pop(0), "timestamp": scene.now})
        events += batch
        scene.feed(json.dumps(batch if len(batch) > 1 else batch[0]).encode())
        if random.random() < 0.2:
            scene.idle()
    expected = model(events)
    found = shown(scene)
    assert found == expected
    finished = sum(life["end"] not in {"ignored", "none"} for life in lives)
    scene.idle(10)
    assert scene.tracked_tasks == len(lives) - finished
