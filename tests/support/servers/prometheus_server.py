"""Prometheus, and promtool."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .base import Runner, Server
from .child import Child
from .containers import Container, docker_answers
from .finding import HOST, MissingProgramError, find_program, free_port
from .http import request
from .process_reaper import process_reaper


def promtool() -> Path:
    """The promtool program; MissingProgramError when there is none."""
    found = find_program("promtool")
    if found is None:
        raise MissingProgramError("promtool", "prometheus")
    return found


class PrometheusServer(Server):
    """A Prometheus that scrapes `targets` ("host:port") every `interval` seconds.

    `scrape` is merged into its one scrape config (metrics_path, params, basic_auth ...); `rules`
    are groups of rules, and alerts go to the Alertmanagers at these addresses ("host:port").
    `jobs` are further scrape configs.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        interval: float = 1.0,
        timeout: float | None = None,
        job: str = "celery-vitals",
        scrape: Mapping[str, Any] | None = None,
        rules: Sequence[Mapping[str, Any]] = (),
        alertmanagers: Sequence[str] = (),
        jobs: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.folder = process_reaper().folder("prometheus")
        every = _duration(interval)
        config = {
            "global": {
                "scrape_interval": every,
                "scrape_timeout": _duration(timeout or interval),
                "evaluation_interval": every,
            },
            "rule_files": [str(self.folder / "rules.yml")],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": list(targets)}], **(scrape or {})},
                *jobs,
            ],
        }
        # JSON is YAML.
        (self.folder / "prometheus.yml").write_text(json.dumps(config))
        (self.folder / "rules.yml").write_text(json.dumps({"groups": list(rules)}))
        port = free_port()
        super().__init__("prometheus", port, self._runner(port))

    def _runner(self, port: int) -> Runner:
        options = [
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
        ]
        program = find_program("prometheus")
        if program is not None:
            return Child("prometheus", [str(program), *options], os.environ, self.folder)
        if docker_answers():
            options[1] = "--storage.tsdb.path=/prometheus"
            return Container(
                "prom/prometheus:v2.55.1", options, volumes={str(self.folder): str(self.folder)}
            )
        raise MissingProgramError("prometheus", "prometheus")

    @property
    def url(self) -> str:
        """Its web address."""
        return f"http://{HOST}:{self.port}"

    def ready(self) -> bool:
        """Its own word."""
        return bool(request(f"{self.url}/-/ready"))

    def api(self, path: str, **parameters: str) -> Any:
        """The data of one answer of the HTTP API (v1)."""
        answer = json.loads(request(f"{self.url}/api/v1/{path}?{urlencode(parameters)}"))
        return answer["data"]

    def query(self, expression: str, **parameters: str) -> list[tuple[dict[str, str], float]]:
        """An instant query that gives a vector: labels and value of each element."""
        result = self.api("query", query=expression, **parameters)["result"]
        return [(one["metric"], float(one["value"][1])) for one in result]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes, with `health`, `lastError`, `lastScrapeDuration` ..."""
        return list(self.api("targets")["activeTargets"])

    def alerts(self) -> list[dict[str, Any]]:
        """What is pending or firing."""
        return list(self.api("alerts")["alerts"])

    def close(self) -> None:
        """End it at once and remove its files."""
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
