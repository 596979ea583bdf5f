"""The exporter as its users run it: the program, as a child process, scraped over HTTP."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tests.support.scrape import Scrape, scrape_url
from tests.support.servers import HOST, Broker, project_environment, wait_for
from tests.support.servers.child import Child
from tests.support.servers.process_reaper import process_reaper


class Exporter:
    """`celery-vitals serve ARGUMENTS` on a port of its own choice.

    Started as a context manager.
    """

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        command: tuple[str, ...] = ("celery_vitals", "serve"),
        min_interval: float | None = 0,
    ) -> None:
        self.folder = process_reaper().folder("exporter")
        argv = [
            sys.executable,
            "-m",
            *command,
            "--web.listen-address",
            f"{HOST}:0",
            *(() if min_interval is None else ("--min-interval", f"{min_interval:g}")),
            *arguments,
        ]
        base = project_environment(Broker("", "", "", None))  # type: ignore[arg-type]
        self.child = Child("exporter", argv, {**base, **(env or {})}, self.folder)
        self.address = ""

    @classmethod
    def of(cls, broker: Broker, *arguments: str, min_interval: float | None = 0) -> Exporter:
        """One that watches a broker and its result backend."""
        given = ["--broker-url", broker.url, "--result-backend", broker.backend_url]
        if broker.management_url:
            given += ["--rabbitmq-management-url", broker.management_url]
        return cls(*given, *arguments, min_interval=min_interval)

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self.child.log

    @property
    def pid(self) -> int:
        """Of its process."""
        return self.child.pid

    def scrape(self, timeout: float | None = None, **query: Any) -> Scrape:
        """Scrape it."""
        return scrape_url(f"{self.address}/metrics", timeout, **query)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        answer = scrape_url(f"{self.address}{path}")
        return answer.status, answer.text

    def start(self) -> Self:
        """Start it and wait until it listens."""
        seen = len(self.log)
        self.child.start()

        def listening() -> re.Match[str] | None:
            if not self.child.alive:
                raise RuntimeError(f"the exporter ended with {self.child.exit_code}:\n{self.log}")
            return re.search(r"msg=listening address=(\S+)", self.log[seen:])

        self.address = wait_for(listening, what="the exporter listening").group(1)  # type: ignore[union-attr]
        return self

    def stop(self) -> int | None:
        """SIGTERM; its exit code."""
        self.child.stop()
        return self.child.exit_code

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
