"""Tasks that take longer than the visibility timeout of Redis."""

from __future__ import annotations

from .farm import Kind
from .torture import Scene, settle

TIMEOUT, RUNTIME = 5.0, 12.0
KINDS = (Kind("threads", 4), Kind("prefork", 4))


def visibility_timeout(scene: Scene, tasks: int = 2) -> list[str]:
    """Run tasks that Redis delivers again while they run; return what the exporter got wrong."""
    for _ in range(tasks):
        scene.traffic.send("logged_late", RUNTIME, queue="late")
    settle(scene)
    comparison = scene.compared()
    wrong = list(comparison.wrong)
    if not comparison.rows["overlapping"].true:
        wrong.append("no task was delivered again while it ran")
    for case in scene.observer.cases:
        if case.reason != "visibility_timeout":
            wrong.append(f"{case.kind} because of {case.reason}: {case.evidence}")
    required = scene.observer.total(
        "task_required_visibility_timeout_seconds", task="project.logged_late"
    )
    if not RUNTIME <= required < 2 * RUNTIME:
        wrong.append(f"the required visibility timeout is {required:g}")
    return wrong
