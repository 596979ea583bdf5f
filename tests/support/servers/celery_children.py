"""Celery's own programs as children of the tests: workers and beat, running the sample project."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .base import Broker
from .child import Child
from .process_reaper import process_reaper
from .waiting import wait_for

if TYPE_CHECKING:
    from typing_extensions import Self

SUPPORT = Path(__file__).resolve().parents[1]


def project_environment(broker: Broker, conf: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The environment that the sample project (`-A project.app`) needs to run on a broker."""
    ours = ("CELERY", "PROJECT_", "PYTEST_", "COV_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    path = [str(SUPPORT), *filter(None, [inherited.get("PYTHONPATH")])]
    return inherited | {
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PROJECT_BROKER_URL": broker.url,
        "PROJECT_RESULT_BACKEND": broker.backend_url,
        "PROJECT_CONF": json.dumps(dict(conf or {})),
    }


class CeleryChild:
    """`celery -A project.app ...` on a broker.  As a context manager it is started, and leaves
    nothing behind.

    CELERY_VITALS_TEST_WORKER_PYTHON names the Python of the workers, by default that of the tests.
    """

    ready_line: str
    start_timeout = 60.0

    def __init__(
        self,
        name: str,
        broker: Broker,
        arguments: Sequence[str],
        conf: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        self.name = name
        self.broker = broker
        folder = process_reaper().folder(name.partition("@")[0])
        chosen = os.environ.get("CELERY_VITALS_TEST_WORKER_PYTHON", sys.executable)
        argv = [str(python or chosen), "-m", "celery", "-A", "project.app", *arguments]
        # What its pool writes to the temporary folder goes with it, even when it is killed.
        own = {"TMPDIR": str(folder)}
        self.child = Child(
            name, argv, project_environment(broker, conf) | own | dict(env or {}), folder
        )
        self._seen = 0

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self.child.alive

    @property
    def pid(self) -> int:
        """Of its main process."""
        return self.child.pid

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self.child.log

    def launch(self) -> Self:
        """Start it; returns at once."""
        self._seen = len(self.log)
        self.child.start()
        return self

    def wait_ready(self) -> Self:
        """Wait for its ready line; RuntimeError with its output after the timeout."""
        try:
            wait_for(
                lambda: self._is_ready() or not self.alive,
                self.start_timeout,
                what=f"{self.name} ready",
            )
        except AssertionError as exc:
            raise RuntimeError(f"{exc}\n{self.log}") from exc
        if not self._is_ready():
            raise RuntimeError(
                f"{self.name} ended with {self.child.exit_code} while it started:\n{self.log}"
            )
        return self

    def _is_ready(self) -> bool:
        return self.ready_line in self.log[self._seen :]

    def start(self) -> Self:
        """Start it and wait until it is ready."""
        return self.launch().wait_ready()

    def stop(self, timeout: float = 20.0) -> None:
        """SIGTERM: it ends what it is at (warm shutdown).  SIGKILL after `timeout` seconds."""
        self.child.stop(timeout)

    def kill(self) -> None:
        """SIGKILL to it and its pool."""
        self.child.kill()

    def freeze(self) -> None:
        """SIGSTOP to it and its pool."""
        self.child.freeze()

    def thaw(self) -> None:
        """SIGCONT to it and its pool."""
        self.child.thaw()

    def close(self) -> None:
        """End it at once and remove its files."""
        self.child.remove()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Worker(CeleryChild):
    """A worker named `name`@test, ready when it consumes."""

    ready_line = " ready."

    def __init__(
        self,
        broker: Broker,
        pool: str = "prefork",
        name: str = "",
        *,
        queues: Sequence[str] = ("celery",),
        concurrency: int = 2,
        events: bool = False,
        gossip: bool = False,
        mingle: bool = False,
        heartbeat: bool = True,
        conf: Mapping[str, Any] | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        self.pool = pool
        name = name or pool
        hostname = name if "@" in name else f"{name}@test"
        arguments = ["worker", "-P", pool, "-n", hostname, "-c", str(concurrency), "-l", "INFO"]
        if queues:
            arguments += ["-Q", ",".join(queues)]
        switches = {"-E": events, "--without-gossip": not gossip, "--without-mingle": not mingle}
        switches["--without-heartbeat"] = not heartbeat
        arguments += [switch for switch, on in switches.items() if on]
        super().__init__(hostname, broker, [*arguments, *args], conf, env, python)


class Beat(CeleryChild):
    """The scheduler; `conf` carries the `beat_schedule`."""

    ready_line = "beat: Starting..."

    def __init__(self, broker: Broker, conf: Mapping[str, Any], args: Sequence[str] = ()) -> None:
        arguments = ["beat", "-l", "INFO", "--schedule", "schedule", "--pidfile", "", *args]
        super().__init__("beat", broker, arguments, conf)
