"""PyPI's `prometheus-exporter-celery`, the peer.

It runs in a separate virtual environment, because it installs a module named `src`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from types import TracebackType

import urllib3
from tests.support.servers import HOST, Broker, free_port, wait_for
from tests.support.servers.child import Child
from tests.support.servers.process_reaper import process_reaper
from typing_extensions import Self

RELEASE = "0.11.2"
_FOLDER = Path(__file__).resolve().parents[2] / ".venv-peer"
_PYTHON = _FOLDER / "bin" / "python"


def install() -> None:
    """Install the peer, unless it is installed already.

    It requires a redis-py below 6, which kombu 5.7 does not accept: install an older Celery.
    """
    wanted = [f"prometheus-exporter-celery=={RELEASE}", "celery[redis]<5.7", "kombu[redis]>=5.5"]
    marker = _FOLDER / ".installed"
    if marker.exists() and marker.read_text().split() == wanted:
        return
    print(f"Installing {wanted[0]} into {_FOLDER.name} ...", file=sys.stderr)
    venv.create(_FOLDER, with_pip=True)
    pip = [str(_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *wanted], check=True)
    marker.write_text("\n".join(wanted))


class Peer:
    """The peer as a process; a context manager.  It reconnects after a disconnect."""

    def __init__(self, broker: Broker) -> None:
        self.folder = process_reaper().folder("peer")
        port = free_port()
        self.address = f"http://{HOST}:{port}"
        argv = [str(_PYTHON), "-c", "from src.cli import cli; cli()", "--broker-url", broker.url]
        argv += ["--host", HOST, "--port", str(port), "--retry-interval", "1"]
        self.child = Child("peer", argv, {"PATH": "/usr/bin:/bin"}, self.folder)

    @property
    def log(self) -> str:
        """Its output so far."""
        return self.child.log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.child.pid

    def __enter__(self) -> Self:
        self.child.start()
        with urllib3.PoolManager() as pool:

            def answers() -> bool:
                return pool.request("GET", self.address, retries=False, timeout=1.0).status == 200

            wait_for(answers, 30.0, what="the peer listening", ignoring=(Exception,))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
