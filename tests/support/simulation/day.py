"""A day of a shop: its tasks, its workers, deploys, scaling, revokes, and optionally kills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.support.simulation.cluster import Cluster
from tests.support.simulation.messages import Message, Task
from tests.support.simulation.process import Node, Process

HOUR = 3600.0
DAY = 24 * HOUR
TASKS: dict[Task, float] = {
    Task("shop.quick", "web", (0.05, 3.0), outcomes={"succeeded": 0.98, "failed": 0.02}): 0.5,
    Task("shop.flaky", "web", (0.2, 5.0), outcomes={"succeeded": 0.7, "retried": 0.3}): 0.05,
    Task("shop.guard", "web", (0.1, 1.0), outcomes={"succeeded": 0.7, "silent": 0.3}): 0.02,
    Task(
        "shop.expand", "web", (0.1, 1.0), outcomes={"replaced": 1.0}, replacement="shop.expanded"
    ): 0.01,
    Task("shop.expanded", "web", (1.0, 20.0)): 0.0,
    Task("shop.remind", "web", (0.1, 5.0), eta=(60.0, 4 * HOUR)): 0.02,
    Task("shop.mail", "web", (0.5, 4.0), late=True): 0.1,
    Task(
        "shop.import",
        "web",
        (1.0, 60.0),
        late=True,
        outcomes={"succeeded": 0.8, "rejected": 0.1, "requeued": 0.1},
    ): 0.01,
    Task("shop.slow", "web", (5.0, 300.0), outcomes={"succeeded": 0.9, "timeout": 0.1}): 0.01,
    Task("shop.offer", "web", (0.1, 2.0), expires=0.02, outcomes={"succeeded": 1.0}): 0.01,
    Task("shop.unknown", "web", (1.0, 2.0), registered=False): 0.001,
    Task("shop.report", "reports", (10.0, 900.0), late=True): 0.01,
    Task("shop.crunch", "long", (HOUR, 4 * HOUR), late=True): 0.0005,
    Task("shop.export", "long", (0.3 * HOUR, 3 * HOUR)): 0.0005,
    Task("shop.fetch", "io", (0.5, 30.0), sent_events=False): 0.05,
    Task("shop.scan", "solo", (1.0, 120.0)): 0.008,
    Task("shop.index", "solo", (1.0, 240.0), late=True): 0.004,
    Task("shop.plain", "plain", (1.0, 60.0), sent_events=False): 0.02,
    Task("shop.quiet", "quiet", (1.0, 60.0), sent_events=False): 0.02,
}
"""The tasks, and how many are sent each second."""
NODES = (
    *(Node("web@web", ("web",), pod=True, in_container=True, heartbeat=5.0) for _ in range(3)),
    *(Node(f"rep@reports-{n}", ("reports",), "threads", 6, heartbeat=5.0) for n in range(2)),
    *(
        Node(f"long@long-{n}", ("long", "reports"), slots=3, heartbeat=5.0, in_container=True)
        for n in range(2)
    ),
    Node("io@io", ("io",), "gevent", 100, heartbeat=5.0),
    *(Node(f"solo@solo-{n}", ("solo",), "solo", 1, heartbeat=10.0) for n in range(2)),
    Node("plain@plain", ("plain",), heartbeat=None),
    Node("quiet@quiet", ("quiet",), task_events=False, heartbeat=5.0),
)


class Day:
    """Traffic on a cluster.

    `kills`: mean seconds between two kills, 0 for none.  `rate`: factor of the number of tasks.
    `grace`: seconds after which a process that completes its tasks is killed; None for never.
    `pace`: factor of the hours that tasks run or wait for their ETA.
    """

    def __init__(
        self,
        cluster: Cluster,
        kills: float = 0.0,
        rate: float = 1.0,
        grace: float | None = None,
        deploys: float = 8 * HOUR,
        pace: float = 1.0,
        nodes: Sequence[Node] = NODES,
    ) -> None:
        self.cluster, self.rng = cluster, cluster.rng
        self.kills: list[str] = []
        self._grace = grace
        self._open = True
        for node in nodes:
            cluster.start(node)
        for task, per_second in TASKS.items():
            task = _with_pace(task, pace)
            cluster.tasks[task.name] = task
            if per_second:
                self._repeat(1 / (rate * per_second), lambda one=task: self._submit(one))  # type: ignore[misc]
        cluster.loop.every(deploys, self.deploy)
        self._repeat(0.5 * HOUR, self._scale)
        self._repeat(600.0, self._autoscale)
        self._repeat(600.0, self._terminate)
        if kills:
            self._repeat(kills, self._kill)

    def run(self, seconds: float, after: float) -> None:
        """Let it pass, then let the cluster complete all that was sent."""
        self.cluster.run(seconds)
        self._open = False
        self.cluster.run(after)

    def deploy(self) -> None:
        """Replace all processes: pods first start the new ones, the others restart."""
        if not self._open:
            return
        for number, process in enumerate(list(self.cluster.processes)):
            if process.state == "up":
                self.cluster.loop.after(20.0 * number, lambda one=process: self._replace(one))  # type: ignore[misc]

    def _repeat(self, mean: float, action: Callable[[], object]) -> None:
        """Do something at random times, as long as the day lasts."""

        def once() -> None:
            if self._open:
                action()
                self.cluster.loop.after(self.rng.expovariate(1 / mean), once)

        self.cluster.loop.after(self.rng.expovariate(1 / mean), once)

    def _submit(self, task: Task) -> Message:
        message = self.cluster.submit(task)
        if task.name == "shop.remind" and self.rng.random() < 0.1:
            self.cluster.revoked.add(message.uuid)
        return message

    def _replace(self, process: Process) -> None:
        """Start the successor of a process: of the same name after its end, else at once."""
        if process.state != "up":
            return
        if process.node.pod:
            self.cluster.start(process.node)
            self._shut_down(process)
        else:
            self._shut_down(process)
            self._start_after(process)

    def _start_after(self, process: Process) -> None:
        if process.state == "ended":
            self.cluster.loop.after(3.0, lambda: self.cluster.start(process.node))
        else:
            self.cluster.loop.after(1.0, lambda: self._start_after(process))

    def _shut_down(self, process: Process) -> None:
        process.shut_down()
        if self._grace is not None:
            self.cluster.loop.after(self._grace, process.kill)

    def _up(self, pod: bool | None = None) -> list[Process]:
        return [
            one
            for one in self.cluster.processes
            if one.state == "up" and (pod is None or one.node.pod == pod)
        ]

    def _scale(self) -> None:
        pods = self._up(pod=True)
        if len(pods) > 3:
            self._shut_down(self.rng.choice(pods))
        elif pods:
            self.cluster.start(pods[0].node)

    def _autoscale(self) -> None:
        for process in self._up(pod=True):
            process.slots = self.rng.randint(2, 8)

    def _terminate(self) -> None:
        running = [(one, run) for one in self._up() for run in one.active if not one.blocked]
        if running:
            process, run = self.rng.choice(running)
            process.terminate(run)

    def _kill(self) -> None:
        """Kill a worker that restarts under its name, a pod, or a child."""
        up = [one for one in self._up() if one.node.task_events]
        process = self.rng.choice([one for one in up if one.node.heartbeat] or up)
        prefork = process.node.pool == "prefork"
        if prefork and process.active and self.rng.random() < 0.3:
            self.kills.append("child")
            process.kill_child(self.rng.choice(list(process.active)))
            return
        self.kills.append("pod" if process.node.pod else "worker")
        process.kill()
        node = replace(process.node)
        delay = self.rng.choice([2.0, 10.0, 400.0])
        self.cluster.loop.after(delay, lambda: self.cluster.start(node))


def _with_pace(task: Task, pace: float) -> Task:
    eta = task.eta and (task.eta[0] * pace, task.eta[1] * pace)
    if task.seconds[1] < 0.5 * HOUR:
        return replace(task, eta=eta)
    return replace(task, eta=eta, seconds=(task.seconds[0] * pace, task.seconds[1] * pace))
