"""Screenshots of the dashboards in each state: `python -m tests.support.ops.screenshots`.

Each scene starts its own cluster and a real Prometheus with the alert rules, and causes the
incident.  Grafana's own components then draw the dashboards in a real browser, and the content of
the page is checked.
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

from tests.support.ops.cluster_states import SCENES, Scene
from tests.support.ops.example_cluster import shop
from tests.support.ops.short_rules import quick_groups
from tests.support.servers import RabbitMQServer
from tests.support.servers.process_reaper import process_reaper

ROOT = Path(__file__).resolve().parents[3]
BROWSER = ROOT / "grafana" / "browser"
INTERVAL = 2.0
SPAN = 120
"""Time range of a screenshot, in seconds."""
SPEED = 20
"""Divisor of the alerts' `for`, so that they fire within the time range."""
MAX_BYTES = 250_000
"""Maximum size of a screenshot."""


@dataclass
class Renderer:
    """Draws the dashboards of each scene and collects the faults that it finds."""

    folder: Path
    chromium: str
    faults: list[str] = field(default_factory=list)
    _starting: threading.Lock = field(default_factory=threading.Lock)
    _drawing: threading.Lock = field(default_factory=threading.Lock)

    def capture(self, scene: Scene) -> None:
        """Start a cluster for the scene and draw its dashboards.

        Scenes run in parallel, but clusters are started, and screenshots drawn, one at a time.
        """
        with ExitStack() as stack:
            with self._starting:
                server = stack.enter_context(RabbitMQServer())
                broker = stack.enter_context(server.namespace())
                cluster = stack.enter_context(
                    shop(broker, INTERVAL, rules=quick_groups(speed=SPEED))
                )
            # Workers cannot shut down while the broker is frozen.
            stack.callback(server.thaw)
            time.sleep(SPAN - scene.duration)
            scene.start(cluster)
            time.sleep(scene.duration)
            with self._drawing:
                self._draw(scene, cluster.prometheus.url)
        print(f"{scene.name}: {', '.join(scene.dashboards)}", flush=True)

    def _draw(self, scene: Scene, prometheus: str) -> None:
        shots = [(name, "dark") for name in scene.dashboards] + [
            (name, "light") for name in scene.light
        ]
        now = time.time()
        jobs = [self._job(name, theme, scene, prometheus, now) for name, theme in shots]
        folder = process_reaper().folder("screenshots")
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
        for (name, _), page in zip(shots, json.loads(answer.stdout), strict=True):
            self.faults += [
                f"{scene.name}, {name}: {fault}" for fault in faults_of(name, page, scene)
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


def faults_of(name: str, page: Mapping[str, Any], scene: Scene) -> Iterator[str]:
    """Yield the faults of a page: errors, empty panels, missing texts, a file that is too large."""
    for panel in page["panels"]:
        title, state = panel["title"], panel.get("state")
        if state not in ("data", "empty"):
            yield f"{title!r} shows an error: {panel.get('message')}"
        elif state == "empty" and (
            panel["message"] == "No data"
            or (scene.healthy and panel["message"].startswith("No data:"))
        ):
            yield f"{title!r} is empty: {panel['message']}"
        elif state == "data" and panel["type"] != "stat" and int(panel["drawn"]) == 0:
            yield f"{title!r} has data and draws nothing"
        for text in scene.expected.get(title, ()) if name == "overview" else ():
            if text not in panel["text"]:
                yield f"{title!r} does not contain {text!r} but {panel['text']!r}"
    yield from (
        f"variable {one['variable']} has no values"
        for one in page["variables"]
        if one["values"] in ("null", "[]")
    )
    size = Path(page["picture"]).stat().st_size
    if size > MAX_BYTES:
        yield f"the screenshot has {size} bytes (maximum {MAX_BYTES})"


def main() -> int:
    """Return 0 if no screenshot has a fault."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.ops.screenshots", description=__doc__
    )
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "img", help="output folder")
    parser.add_argument(
        "--only", nargs="*", choices=[one.name for one in SCENES], help="scenes to draw"
    )
    options = parser.parse_args()
    chromium = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if chromium is None:
        parser.error("chromium not found (install the Debian package chromium)")
    options.folder.mkdir(parents=True, exist_ok=True)
    renderer = Renderer(options.folder.resolve(), chromium)
    scenes = [one for one in SCENES if not options.only or one.name in options.only]
    try:
        with ThreadPoolExecutor(len(scenes)) as pool:
            list(pool.map(renderer.capture, scenes))
    finally:
        process_reaper().close()
    for fault in renderer.faults:
        print(fault, file=sys.stderr)
    return 1 if renderer.faults else 0


if __name__ == "__main__":
    sys.exit(main())
