"""Tasks on six workers, under kills of workers and pool processes and restarts of the broker."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.support.servers import Broker, wait_for
from tests.support.servers.process_reaper import process_reaper

from .compare import Comparison, compare
from .farm import SIX, Farm, Kind, Member, settings
from .log import read_log
from .observer import Observer
from .recorder import Recorder, recorder_of
from .traffic import Traffic, wait_empty
from .truth import Gap, Truth, truth_of

VISIBILITY_TIMEOUT = 20.0
STUCK = 20.0
"""Seconds without a start, with messages waiting, after which a worker is restarted: Celery 5.4 may
not consume after a restart of Redis."""
SETTLE = 150.0


@dataclass
class Scene:
    """Everything that runs."""

    broker: Broker
    random: Random
    recorder: Recorder
    observer: Observer
    farm: Farm
    traffic: Traffic
    gaps: list[Gap] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    """Ids of tasks that were terminated: their log ends without an end."""
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """What the comparison does not show."""

    def truths(self) -> dict[str, Truth]:
        """Return what the log shows so far."""
        runs = read_log(self.farm.folder, self.farm.mains)
        return {
            uuid: truth_of(
                runs.get(uuid, []), self.recorder.tasks.get(uuid, ()), self.farm.deaths, self.gaps
            )
            for uuid in {*self.traffic.sent, *runs} - self.revoked
        }

    def compared(self) -> Comparison:
        """Compare the exporter with the log, now that all is settled."""
        return compare(self.truths(), self.observer.cases)


@contextmanager
def scene(
    broker: Broker,
    seed: int,
    *arguments: str,
    kinds: Sequence[Kind] = SIX,
    visibility_timeout: float = VISIBILITY_TIMEOUT,
) -> Iterator[Scene]:
    """Start an exporter with these arguments, a recorder and the workers."""
    folder = process_reaper().folder("ledger")
    random = Random(seed)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        recorder = stack.enter_context(recorder_of(broker))
        observer = stack.enter_context(Observer(broker, *arguments))
        conf = settings(broker, visibility_timeout)
        farm = stack.enter_context(Farm(broker, recorder, Path(folder), kinds, conf))
        traffic = Traffic(broker, random)
        stack.callback(traffic.close)
        observer.look_again()
        yield Scene(broker, random, recorder, observer, farm, traffic)


def torture(scene: Scene, tasks: int, kills: int, restarts: int) -> None:
    """Send the tasks; kill and restart at random moments; wait until all is decided."""
    moments = sorted(scene.random.sample(range(tasks // 20, tasks * 19 // 20), kills + restarts))
    of_broker = set(scene.random.sample(moments, restarts))
    deadline = time.monotonic() + 120 + tasks / 20 + 10 * (kills + restarts)
    while (taken := scene.traffic.taken()) < tasks * 19 // 20 or moments:
        if time.monotonic() > deadline:
            raise AssertionError(f"{taken} of {tasks} tasks received in time")
        if left := tasks - len(scene.traffic.sent):
            scene.traffic.top_up(left)
        running = sum(one.ready for one in scene.farm.members)
        if moments and taken >= moments[0] and running > len(SIX) // 2:
            disturb(scene, restart=moments.pop(0) in of_broker)
        scene.done["worker ended"] += scene.farm.revive(time.time(), scene.random)
        if taken < len(scene.traffic.sent):
            restart_stuck(scene)
        time.sleep(0.02)
    settle(scene)


def disturb(scene: Scene, restart: bool) -> None:
    """Do one of the disturbances."""
    running = [one for one in scene.farm.members if not one.revive_at and one.worker.alive]
    if restart or not running:
        restart_broker(scene)
        return
    member = scene.random.choice(running)
    if scene.random.random() < 0.4 and member.kill_child(scene.random):
        scene.done["pool process killed"] += 1
        return
    kill(scene, member)


def kill(scene: Scene, member: Member, why: str = "worker killed") -> None:
    """Kill a worker, to be started again soon."""
    member.kill()
    scene.done[why] += 1
    member.revive_at = time.time() + scene.random.uniform(0.0, 3.0)


def restart_broker(scene: Scene) -> None:
    """Restart the broker, cleanly or by SIGKILL."""
    began = time.time()
    server = scene.broker.server
    if scene.random.random() < 0.5:
        server.kill()
        server.start()
    else:
        server.restart()
    scene.done["broker restarted"] += 1
    scene.traffic.reconnect()
    gap = scene.observer.gap_since(began)
    if not scene.recorder.connected.wait(30.0):
        raise AssertionError("the recorder did not connect again")
    scene.gaps.append(gap)


def restart_stuck(scene: Scene) -> None:
    """Restart the workers that do not consume, though messages wait."""
    now = time.time()
    for member in scene.farm.members:
        active_at = max(member.started_at, member.process.last_start)
        if scene.gaps and not member.revive_at and now - active_at > STUCK:
            kill(scene, member, "stuck worker killed")


def settle(scene: Scene) -> None:
    """Wait until every message is done with, and the exporter has decided what became of it."""
    scene.farm.revive(time.time(), scene.random, everyone=True)
    scene.farm.wait_ready()
    timeout = VISIBILITY_TIMEOUT + 15.0
    for _ in range(3):
        try:
            wait_empty(scene.broker, timeout)
            wait_for(lambda: not _active(scene), timeout, what="no worker active")
            break
        except AssertionError:
            kill_active(scene)
    else:
        scene.wrong.append("the workers do not end their tasks")
    try:
        scene.observer.wait_settled(SETTLE)
    except AssertionError as exc:
        scene.wrong.append(str(exc))


def _active(scene: Scene) -> list[Member]:
    return [one for one in scene.farm.members if one.process.active]


def kill_active(scene: Scene) -> None:
    """Restart the workers that report a task for ever, as their pool may after SIGKILL in it."""
    for member in _active(scene) or scene.farm.members:
        kill(scene, member, "stuck worker killed")
    scene.farm.revive(time.time(), scene.random, everyone=True)
    scene.farm.wait_ready()


def healthy(scene: Scene, seconds: float) -> Counter[str]:
    """Send tasks to the same workers without disturbances; return the new cases."""
    before = Counter(case.kind for case in scene.observer.cases)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        scene.traffic.top_up(20)
        scene.farm.revive(time.time(), scene.random)
        time.sleep(0.2)
    settle(scene)
    return Counter(case.kind for case in scene.observer.cases) - before
