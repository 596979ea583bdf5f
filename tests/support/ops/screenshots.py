"""Pictures of the dashboards, healthy and in incidents: `python -m tests.support.ops.screenshots`.

Each scene has a cluster of its own that is driven into it, and a real Prometheus with the alert rules that scrapes its
exporter; then the dashboards are drawn by Grafana's own components in a real browser, and what they show is checked in
the page before the pictures are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ops.dashboards_scenes import SCENES, Scene
from tests.support.ops.dashboards_shop import shop
from tests.support.ops.quick import quick_groups
from tests.support.servers import RabbitMQServer
from tests.support.servers.warden import warden

ROOT = Path(__file__).resolve().parents[3]
BROWSER = ROOT / "grafana" / "browser"
INTERVAL = 2.0
SPAN = 120
"""Seconds that a picture shows."""
SPEED = 20
"""How many times shorter the alerts' times are, so that they fire within the span."""
LARGEST = 200_000
"""Bytes of a picture."""


@dataclass
class Photographer:
    """Draws dashboards of a Prometheus and notes what is wrong with what they show."""

    folder: Path
    chromium: str
    faults: list[str] = field(default_factory=list)
    _opening: threading.Lock = field(default_factory=threading.Lock)
    _drawing: threading.Lock = field(default_factory=threading.Lock)

    def photograph(self, scene: Scene) -> None:
        """One scene in a cluster of its own.  Clusters are started, and pictures drawn, one after the other."""
        with ExitStack() as stack:
            with self._opening:
                server = stack.enter_context(RabbitMQServer())
                broker = stack.enter_context(server.namespace())
                cluster = stack.enter_context(
                    shop(broker, INTERVAL, rules=quick_groups(speed=SPEED))
                )
            # A broker that stands still would hold up the end of everything else.
            stack.callback(server.thaw)
            time.sleep(SPAN - scene.lasts)
            scene.begin(cluster)
            time.sleep(scene.lasts)
            with self._drawing:
                self._draw(scene, cluster.prometheus.url)
        print(f"{scene.name}: {', '.join(scene.boards)}", flush=True)

    def _draw(self, scene: Scene, prometheus: str) -> None:
        shots = [(name, "dark") for name in scene.boards] + [
            (name, "light") for name in scene.light
        ]
        now = time.time()
        jobs = [self._job(name, theme, scene, prometheus, now) for name, theme in shots]
        folder = warden().folder("screenshots")
        try:
            path = folder / "jobs.json"
            path.write_text(json.dumps(jobs))
            command = ["node", str(BROWSER / "shoot.mjs"), self.chromium, str(path)]
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=60 + 60 * len(jobs), check=False
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if answer.returncode:
            raise RuntimeError(answer.stderr)
        for (name, _), seen in zip(shots, json.loads(answer.stdout), strict=True):
            self.faults += [
                f"{scene.name}, {name}: {fault}" for fault in faults_of(name, seen, scene)
            ]

    def _job(
        self, name: str, theme: str, scene: Scene, prometheus: str, now: float
    ) -> dict[str, Any]:
        task = {
            "dashboard": json.loads(
                (ROOT / "grafana" / "dashboards" / f"celery-vitals-{name}.json").read_text()
            ),
            "prometheus": prometheus,
            "from": now - SPAN,
            "to": now,
            "scrape": INTERVAL,
            "theme": theme,
            "width": 1400,
            "scale": 0.66 if name in ("overview", "queues") else 0.58,
        }
        suffix = "-light" if theme == "light" else ""
        return {"task": task, "picture": str(self.folder / f"{name}-{scene.name}{suffix}.png")}


def faults_of(name: str, seen: Mapping[str, Any], scene: Scene) -> Iterator[str]:
    """What is wrong with a page: errors, empty panels on a healthy day, words that are missing, a large picture."""
    for panel in seen["panels"]:
        title, state = panel["title"], panel.get("state")
        if state not in ("data", "empty"):
            yield f"{title!r} shows an error: {panel.get('message')}"
        elif state == "empty" and (
            panel["message"] == "No data"
            or (scene.healthy and panel["message"].startswith("Not seen"))
        ):
            yield f"{title!r} is empty: {panel['message']}"
        elif state == "data" and panel["type"] != "stat" and int(panel["drawn"]) == 0:
            yield f"{title!r} has data and draws nothing"
        for words in scene.says.get(title, ()) if name == "overview" else ():
            if words not in panel["words"]:
                yield f"{title!r} does not say {words!r} but {panel['words']!r}"
    yield from (
        f"{one['variable']} offers nothing"
        for one in seen["variables"]
        if one["values"] in ("null", "[]")
    )
    size = Path(seen["picture"]).stat().st_size
    if size > LARGEST:
        yield f"its picture has {size} bytes"


def main() -> int:
    """0 when every picture shows what it should."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.ops.screenshots", description=__doc__
    )
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "docs" / "img", help="where the pictures go"
    )
    parser.add_argument(
        "--only", nargs="*", choices=[one.name for one in SCENES], help="scenes to photograph"
    )
    given = parser.parse_args()
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        parser.error("pictures need the Debian package chromium")
    given.folder.mkdir(parents=True, exist_ok=True)
    camera = Photographer(given.folder.resolve(), chromium)
    scenes = [one for one in SCENES if not given.only or one.name in given.only]
    try:
        with ThreadPoolExecutor(len(scenes)) as stages:
            list(stages.map(camera.photograph, scenes))
    finally:
        warden().close()
    for fault in camera.faults:
        print(fault, file=sys.stderr)
    return 1 if camera.faults else 0


if __name__ == "__main__":
    sys.exit(main())
