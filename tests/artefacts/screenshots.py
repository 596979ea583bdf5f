"""Pictures of the dashboards in docs/img, healthy and in incidents: `python -m tests.artefacts.screenshots`.

A real cluster is driven into each incident while a real Prometheus scrapes its exporter; then the dashboards are drawn
by Grafana's own components in a real browser, and what they show is checked in the page before the pictures are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery import Celery
from kombu import Connection

from tests.artefacts.dashboards_shop import Shop, shop
from tests.servers import RabbitMQServer, wait_for
from tests.servers.warden import warden

ROOT = Path(__file__).resolve().parents[2]
BROWSER = ROOT / "grafana" / "browser"
NAMES = ("overview", "tasks", "queues", "workers", "exporter")
INTERVAL = 2.0
SPAN = 150
"""Seconds that a picture shows."""
CALM = 45
"""Seconds between two incidents."""
LARGEST = 200_000
"""Bytes of a picture."""


@dataclass(frozen=True)
class Scene:
    """A state of the cluster, what leads to it, and what the pictures have to say about it."""

    name: str
    seconds: float
    """How long it lasts before the pictures are taken."""
    boards: Sequence[str]
    says: Mapping[str, Sequence[str]]
    """Words that have to stand in a panel of the overview, by its title."""
    during: Callable[[Shop], Any]
    theme: str = "dark"


@contextmanager
def healthy(scene: Shop) -> Iterator[None]:
    """Everything runs."""
    yield


@contextmanager
def no_consumer(scene: Shop) -> Iterator[None]:
    """Reports are sent and nobody consumes their queue; in the end they are thrown away."""
    scene.traffic.unserved.set()
    yield
    scene.traffic.unserved.clear()
    time.sleep(1)
    with Connection(scene.broker.url) as connection:
        connection.default_channel.queue_purge("reports")


@contextmanager
def not_consuming(scene: Shop) -> Iterator[None]:
    """One worker answers and consumes nothing."""
    name = "web-2@shop"
    with Celery(broker=scene.broker.url, set_as_current=False) as app:
        for queue in ("orders", "mail"):
            app.control.cancel_consumer(queue, destination=[name])
        yield
        for queue in ("orders", "mail"):
            app.control.add_consumer(queue, destination=[name])


@contextmanager
def broker_down(scene: Shop) -> Iterator[None]:
    """The broker stands still."""
    scene.traffic.pause()
    scene.broker.server.freeze()
    yield
    scene.broker.server.thaw()
    scene.traffic.go_on()
    wait_for(lambda: scene.prometheus.query("celery_broker_up == 1"), 60, interval=0.5)
    wait_for(lambda: scene.prometheus.query("sum (celery_worker_replied) == 3"), 60, interval=0.5)


@contextmanager
def failing(scene: Shop) -> Iterator[None]:
    """One task fails."""
    scene.traffic.failing.set()
    yield
    scene.traffic.failing.clear()


SCENES = (
    Scene("healthy", 150, NAMES, {"Is it all right?": ("HEALTHY",)}, healthy),
    Scene("healthy-light", 0, ("overview",), {"Is it all right?": ("HEALTHY",)}, healthy, "light"),
    Scene(
        "no-consumer",
        60,
        ("overview", "queues"),
        {"Is it all right?": ("UNHEALTHY",), "What is wrong now": ("reports", "no worker consumes the queue")},
        no_consumer,
    ),
    Scene(
        "not-consuming",
        90,
        ("overview", "workers"),
        {"Is it all right?": ("UNHEALTHY",), "What is wrong now": ("web-2@shop", "consumes no queue")},
        not_consuming,
    ),
    Scene(
        "broker-down",
        45,
        ("overview",),
        {"Is it all right?": ("UNHEALTHY",), "What is wrong now": ("broker does not answer",), "Broker": ("DOWN",)},
        broker_down,
    ),
    Scene(
        "failing",
        75,
        ("overview", "tasks"),
        {"Is it all right?": ("UNHEALTHY",), "What is wrong now": ("project.fail", "runs fail")},
        failing,
    ),
)


@dataclass
class Photographer:
    """Draws dashboards of a Prometheus and says what is wrong with what they show."""

    url: str
    folder: Path
    faults: list[str] = field(default_factory=list)

    def shoot(self, scene: Scene) -> None:
        """The pictures of one scene, and their checks."""
        now = time.time()
        jobs = [self._job(name, scene, now) for name in scene.boards]
        folder = warden().folder("screenshots")
        try:
            path = folder / "jobs.json"
            path.write_text(json.dumps(jobs))
            command = ["node", str(BROWSER / "shoot.mjs"), _chromium(), str(path)]
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60 + 60 * len(jobs), check=False)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if answer.returncode:
            raise RuntimeError(answer.stderr)
        for name, seen in zip(scene.boards, json.loads(answer.stdout), strict=True):
            self.faults += [f"{scene.name}, {name}: {fault}" for fault in faults_of(name, seen, scene)]

    def _job(self, name: str, scene: Scene, now: float) -> dict[str, Any]:
        board = json.loads((ROOT / "grafana" / "dashboards" / f"celery-vitals-{name}.json").read_text())
        task = {
            "dashboard": board,
            "prometheus": self.url,
            "from": now - SPAN,
            "to": now,
            "scrape": INTERVAL,
            "theme": scene.theme,
            "width": 1400,
            "scale": 0.66 if name in ("overview", "queues") else 0.58,
        }
        return {"task": task, "picture": str(self.folder / f"{name}-{scene.name}.png")}


def faults_of(name: str, seen: Mapping[str, Any], scene: Scene) -> Iterator[str]:
    """What is wrong with a page: errors, empty panels on a healthy day, words that are missing, a large picture."""
    quiet = scene.name.startswith("healthy")
    for panel in seen["panels"]:
        title, state = panel["title"], panel.get("state")
        if state not in ("data", "empty"):
            yield f"{title!r} shows an error: {panel.get('message')}"
        elif state == "empty" and (
            panel["message"] == "No data" or (quiet and panel["message"].startswith("Not seen"))
        ):
            yield f"{title!r} is empty: {panel['message']}"
        elif state == "data" and panel["type"] != "stat" and int(panel["drawn"]) == 0:
            yield f"{title!r} has data and draws nothing"
        for words in scene.says.get(title, ()) if name == "overview" else ():
            if words not in panel["words"]:
                yield f"{title!r} does not say {words!r} but {panel['words']!r}"
    yield from (f"{one['variable']} offers nothing" for one in seen["variables"] if one["values"] in ("null", "[]"))
    size = Path(seen["picture"]).stat().st_size
    if size > LARGEST:
        yield f"its picture has {size} bytes"


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("pictures need the Debian package chromium")
    return found


def main() -> int:
    """0 when every picture shows what it should.  Takes about 9 minutes: an incident needs time to be seen as one."""
    parser = argparse.ArgumentParser(prog="python -m tests.artefacts.screenshots", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "img")
    parser.add_argument("--only", nargs="*", help="scenes to photograph, after a minute of traffic; all by default")
    given = parser.parse_args()
    scenes = [one for one in SCENES if not given.only or one.name in given.only]
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        with RabbitMQServer() as server, server.namespace() as broker, shop(broker, INTERVAL) as scene:
            camera = Photographer(scene.prometheus.url, given.folder)
            if given.only:
                time.sleep(60)
            for one in scenes:
                with one.during(scene):
                    time.sleep(one.seconds)
                    camera.shoot(one)
                print(f"{one.name}: {', '.join(one.boards)}", flush=True)
                if one.during is not healthy:
                    time.sleep(CALM)
    finally:
        warden().close()
    for fault in camera.faults:
        print(fault, file=sys.stderr)
    return 1 if camera.faults else 0


if __name__ == "__main__":
    sys.exit(main())
