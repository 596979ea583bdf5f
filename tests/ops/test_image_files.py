"""What can be said of the Dockerfiles, compose.yaml and the examples without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from cloudcoil.models.prometheus_operator import v1

from celery_vitals._version import __version__
from tests.support.command_line import serve
from tests.support.servers import promtool
from tools.base import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
RULES = ROOT / "alerts" / "celery-vitals.rules.yml"


@pytest.mark.parametrize("path", ["Dockerfile", "compose/app/Dockerfile"])
def test_linter_finds_nothing(path: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [hadolint, ROOT / path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def pins(path: str) -> set[str]:
    return set(re.findall(r"^([\w.-]+==\S+)", (ROOT / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", ["image/run.txt", "image/build.txt"])
def test_the_image_has_the_versions_that_are_tested(path: str) -> None:
    assert pins(path)
    assert pins(path) <= pins("constraints-dev.txt"), "run `make constraints`"


def test_the_image_has_the_version_of_the_program() -> None:
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text()


def test_only_what_is_needed_is_sent_to_the_engine() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    for name in (line.removeprefix("!") for line in lines if line.startswith("!")):
        assert (ROOT / name).exists()


def test_every_file_that_compose_mounts_is_there() -> None:
    mounts = [one for service in COMPOSE["services"].values() for one in service.get("volumes", [])]
    assert len(mounts) >= 5
    for mount in mounts:
        source, _, mode = mount.split(":")
        assert (ROOT / source).exists(), source
        assert mode == "ro"


def test_compose_publishes_on_this_machine_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:${") for port in ports)


def test_the_exporter_of_compose_takes_its_variables() -> None:
    given = COMPOSE["services"]["celery-vitals"]["environment"]
    env = {name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value) for name, value in given.items()}
    assert serve(env=env).exit_code == 0


@pytest.mark.parametrize(
    "path",
    [
        "compose/prometheus.yml",
        "examples/prometheus/static.yml",
        "examples/prometheus/kubernetes.yml",
        "examples/prometheus/compat.yml",
    ],
)
def test_prometheus_takes_its_configuration(path: str, tmp_path: Path) -> None:
    # Debian's Prometheus is built without Kubernetes: the rest of that file is checked.
    found = re.sub(
        r"kubernetes_sd_configs:\s+- role: endpointslice",
        "static_configs: []",
        (ROOT / path).read_text(),
    )
    (tmp_path / "prometheus.yml").write_text(found)
    shutil.copy(RULES, tmp_path)
    command = [str(promtool()), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_operator_takes_the_example() -> None:
    one = yaml.safe_load((ROOT / "examples/prometheus/servicemonitor.yaml").read_text())
    read = v1.ServiceMonitor.model_validate(one)
    assert read.model_dump(by_alias=True, exclude_unset=True, mode="json") == one
    service = next(
        one
        for one in yaml.safe_load_all((ROOT / "examples/kubernetes/celery-vitals.yaml").read_text())
        if one["kind"] == "Service"
    )
    assert one["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


def test_the_unit_starts_the_program_with_options_that_it_has(tmp_path: Path) -> None:
    text = (ROOT / "examples/systemd/celery-vitals.service").read_text()
    (tmp_path / "broker-url").write_text("redis://localhost:1/0\n")
    env = dict(
        re.findall(r"^Environment=(\w+)=(.*)$", text.replace("%d", str(tmp_path)), re.MULTILINE)
    )
    [start] = re.findall(r"^ExecStart=\S+/celery-vitals serve(.*)$", text, re.MULTILINE)
    assert serve(*start.split(), env=env).exit_code == 0
