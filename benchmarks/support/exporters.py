"""The exporters: celery-vitals, and the one it is compared with."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.support.processes import HOST, Process, environment, free_port
from benchmarks.support.servers import Broker

OURS, PEER = "celery-vitals", "prometheus-exporter-celery"
RELEASE = "0.11.2"
_FOLDER = Path(__file__).resolve().parents[2] / ".venv-peer"
_PYTHON = _FOLDER / "bin" / "python"


@dataclass(frozen=True)
class Scrape:
    """One response of `/metrics`."""

    status: int
    text: str
    seconds: float

    def series(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """Return the values of a metric by their labels."""
        return {
            tuple(sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name
        }


class Exporter(Process):
    """An exporter that serves `/metrics`."""

    address: str

    def scrape(self, timeout: float | None = None) -> Scrape:
        """Scrape as Prometheus does, with its timeout in seconds."""
        header = "X-Prometheus-Scrape-Timeout-Seconds"
        headers: Mapping[str, str] = {header: str(timeout)} if timeout is not None else {}
        started = time.monotonic()
        with urllib3.PoolManager(timeout=30.0, retries=False) as pool:
            answer = pool.request("GET", f"{self.address}/metrics", headers=headers)
            return Scrape(answer.status, answer.data.decode(), time.monotonic() - started)


class Ours(Exporter):
    """`celery-vitals serve` on a broker and its result backend."""

    def __init__(self, broker: Broker, *arguments: str) -> None:
        argv = [sys.executable, "-m", "celery_vitals", "serve", "--min-interval", "0"]
        argv += ["--web.listen-address", f"{HOST}:0", "--broker-url", broker.url]
        argv += ["--result-backend", broker.backend_url]
        if broker.management_url:
            argv += ["--rabbitmq-management-url", broker.management_url]
        super().__init__("exporter", [*argv, *arguments], environment())

    def start(self) -> None:
        """Start it and wait until it listens."""
        super().start()
        listening = re.compile(r"msg=listening address=(\S+)")
        self.wait_ready(lambda: listening.search(self.log))
        self.address = listening.findall(self.log)[0]


class Peer(Exporter):
    """PyPI's `prometheus-exporter-celery`; reconnects when it was disconnected."""

    def __init__(self, broker: Broker, *arguments: str) -> None:
        port = free_port()
        self.address = f"http://{HOST}:{port}"
        argv = [str(_PYTHON), "-c", "from src.cli import cli; cli()", "--broker-url", broker.url]
        argv += ["--host", HOST, "--port", str(port), "--retry-interval", "1"]
        super().__init__("peer", [*argv, *arguments], {"PATH": "/usr/bin:/bin"})

    def start(self) -> None:
        """Start it and wait until it listens."""
        super().start()
        self.wait_ready(lambda: urllib3.request("GET", self.address, timeout=1.0).status == 200)


def exporter(name: str, broker: Broker) -> Exporter:
    """Return one of the two."""
    return Ours(broker) if name == OURS else Peer(broker)


def install_peer() -> None:
    """Install the peer into a virtual environment of its own, unless it is there.

    With the last Celery before 5.7: later versions of kombu refuse the redis-py (below 6) that the
    peer requires.
    """
    wanted = [f"{PEER}=={RELEASE}", "celery[redis]<5.7", "kombu[redis]>=5.5"]
    marker = _FOLDER / ".installed"
    if marker.exists() and marker.read_text().split() == wanted:
        return
    print(f"Installing {wanted[0]} into {_FOLDER.name} ...", file=sys.stderr)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    venv.create(_FOLDER, with_pip=True)
    pip = [str(_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)
    marker.write_text("\n".join(wanted))
