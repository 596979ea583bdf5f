"""Alertmanager."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .base import Runner, Server
from .child import Child
from .containers import Container, docker_answers
from .finding import HOST, MissingProgramError, find_program, free_port
from .http import request
from .process_reaper import process_reaper


class AlertmanagerServer(Server):
    """An Alertmanager with a configuration, and the files that this names as its templates."""

    def __init__(
        self, config: Mapping[str, Any], templates: Mapping[str, str] | None = None
    ) -> None:
        self.folder = process_reaper().folder("alertmanager")
        for name, text in (templates or {}).items():
            (self.folder / name).write_text(text)
        # JSON is YAML.
        (self.folder / "alertmanager.yml").write_text(json.dumps(dict(config)))
        port = free_port()
        super().__init__("alertmanager", port, self._runner(port))

    def _runner(self, port: int) -> Runner:
        options = [
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--cluster.listen-address=",
        ]
        program: Path | None = find_program("prometheus-alertmanager") or find_program(
            "alertmanager"
        )
        if program is not None:
            return Child("alertmanager", [str(program), *options], os.environ, self.folder)
        if docker_answers():
            options[1] = "--storage.path=/alertmanager"
            return Container(
                "prom/alertmanager:v0.28.1", options, volumes={str(self.folder): str(self.folder)}
            )
        raise MissingProgramError("alertmanager", "prometheus-alertmanager")

    @property
    def url(self) -> str:
        """Its web address."""
        return f"http://{HOST}:{self.port}"

    def ready(self) -> bool:
        """Its own word."""
        return bool(request(f"{self.url}/-/ready"))

    def close(self) -> None:
        """End it at once and remove its files."""
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)
