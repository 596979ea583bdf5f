"""docs/extending.md: each how-to, followed literally in a copy of the repository, works."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from celery import Celery

from tests.support.exporter import Exporter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCK = re.compile(
    r'^(?P<indent> *)```(?P<language>\w+)(?: title="(?P<file>[^"]+)")?\n'
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
COLLECTOR, BROKER, OPTION = "Add a collector", "Add a broker kind", "Add an option"
HOW_TOS = (COLLECTOR, BROKER, OPTION)
AFFECTED = "tests/unit/test_exporter.py"
"""Tests that list the collectors and know their limits; the page does not name them."""
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", ".matrix", ".ruff_cache", ".pytest_cache", "__pycache__", "node_modules"
)


class DriftError(AssertionError):
    """A block of the page that does not fit the code."""


@dataclass(frozen=True)
class Block:
    """A fenced block of the page."""

    section: str
    language: str
    file: str
    text: str

    def apply(self, folder: Path) -> None:
        """Do what the block shows to the file below `folder`."""
        path = folder / self.file
        if self.language == "python":
            if path.exists():
                raise DriftError(f"{self.section}: {self.file} exists already")
            path.write_text(self.text)
            return
        lines = [(line[:1] or " ", line[1:]) for line in self.text.splitlines()]
        old, new = (
            "".join(f"{text}\n" for mark, text in lines if mark in marks) for marks in (" -", " +")
        )
        content = path.read_text()
        for _, line in (one for one in lines if one[0] != "+"):
            if line not in content.splitlines():
                raise DriftError(f"{self.section}: {self.file} has no line {line!r}")
        if f"\n{content}".count(f"\n{old}") != 1:
            raise DriftError(f"{self.section}: {self.file} does not contain once:\n{old}")
        path.write_text(f"\n{content}".replace(f"\n{old}", f"\n{new}")[1:])


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/extending.md has no section {title!r}"
    return found[1]


def blocks(title: str, *languages: str) -> list[Block]:
    found = [
        Block(title, one["language"], one["file"] or "", textwrap.dedent(one["text"]))
        for one in BLOCK.finditer(section(title))
    ]
    return [block for block in found if block.language in languages]


def commands(title: str) -> dict[str, str]:
    """Return the output of each command of a how-to."""
    (block,) = blocks(title, "console")
    return dict(re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block.text, re.MULTILINE))


@dataclass(frozen=True)
class Copy:
    """A copy of the repository in which how-tos have been followed."""

    folder: Path

    def follow(self, title: str) -> None:
        added = blocks(title, "python")
        if all(self.has(block) for block in added):
            pytest.skip(f"{title}: followed in this repository already")
        for block in blocks(title, "python", "diff"):
            block.apply(self.folder)

    def has(self, block: Block) -> bool:
        path = self.folder / block.file
        return path.exists() and path.read_text() == block.text

    @property
    def variables(self) -> dict[str, str]:
        return {"PYTHONPATH": f"{self.folder / 'exporter'}{os.pathsep}{self.folder}"}

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *([] if command[0] == "-c" else ["-m"]), *command],
            cwd=self.folder,
            env={**os.environ, **self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def output(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def generate(self, title: str) -> None:
        """Run `make generate` and compare its output with the page."""
        assert self.output("tools.generate") == commands(title)["make generate"]

    def exporter(self, *arguments: str) -> Exporter:
        return Exporter(*arguments, env=self.variables)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    folder = tmp_path / "repository"
    shutil.copytree(ROOT, folder, symlinks=True, ignore=NOT_COPIED)
    return Copy(folder)


def test_the_collector_exports_its_metric_and_has_a_switch(copy: Copy) -> None:
    copy.follow(COLLECTOR)
    copy.generate(COLLECTOR)
    assert "`celery_broker_round_trip_seconds` | gauge" in copy.read("docs/metrics.md")
    assert "`CELERY_VITALS_COLLECTOR_LATENCY`" in copy.read("docs/options.md")
    assert "--[no-]collector.latency" in copy.output("celery_vitals", "serve", "--help")
    with copy.exporter("--broker-url", "memory://") as exporter:
        scrape = exporter.scrape(collect="latency")
        assert scrape.value("celery_scrape_collector_success", collector="latency") == 1
        assert 0 < (scrape.value("celery_broker_round_trip_seconds") or 0) < 5
        other = exporter.scrape(collect="broker")
        assert other.series("celery_broker_round_trip_seconds") == {}


def test_the_broker_kind_counts_the_messages_of_a_queue(copy: Copy, tmp_path: Path) -> None:
    copy.follow(BROKER)
    copy.generate(BROKER)
    assert "| Spool | `spool` | yes | - | yes | - | - | - | yes |" in copy.read("docs/brokers.md")
    folders = {
        name: str(tmp_path) for name in ("data_folder_in", "data_folder_out", "control_folder")
    }
    app = Celery(broker="filesystem://")
    app.conf.broker_transport_options = folders
    for _ in range(2):
        app.send_task("example")
    options = [f"--broker-transport-option={name}={value}" for name, value in folders.items()]
    with copy.exporter("--app", "tests.support.spool", *options) as exporter:
        scrape = exporter.scrape()
        assert scrape.value("celery_broker_info", transport="spool") == 1
        assert scrape.value("celery_broker_up") == 1
        assert scrape.by("queue", "celery_queue_length") == {"celery": 2}
        assert {"workers", "task_events"} <= set(scrape.by("subject", "celery_exporter_blind_spot"))


def test_the_option_is_read_from_every_source(copy: Copy, tmp_path: Path) -> None:
    copy.follow(OPTION)
    copy.generate(OPTION)
    row = "| `--probe-limit SECONDS` | `CELERY_VITALS_PROBE_LIMIT` | `probe-limit` | `5` |"
    assert row in copy.read("docs/options.md")
    assert "--probe-limit SECONDS" in copy.output("celery_vitals", "serve", "--help")
    wrong = copy.run("celery_vitals", "serve", "--config.check", CELERY_VITALS_PROBE_LIMIT="soon")
    assert wrong.returncode == 2
    assert "CELERY_VITALS_PROBE_LIMIT: must be a number of seconds from 0.1 to 300" in wrong.stderr
    file = tmp_path / "vitals.yaml"
    file.write_text("probe-limit: 0.2\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with copy.exporter("--config.file", str(file), "--broker-url", url) as exporter:
            seconds = exporter.scrape().by("collector", "celery_scrape_collector_duration_seconds")
            assert 0.1 < seconds["broker"] < 2


def test_the_tests_of_the_how_tos_pass(copy: Copy) -> None:
    paths: list[str] = []
    for title in HOW_TOS:
        copy.follow(title)
        _, command = commands(title)
        paths += command.removeprefix(".venv/bin/python -m pytest ").split()
    added = {block.file for title in HOW_TOS for block in blocks(title, "python")}
    tests = {file for file in added if Path(file).name.startswith("test_")}
    assert all(any(test.startswith(path) for path in paths) for test in tests)
    assert " passed" in copy.output("pytest", "-q", "-p", "no:cacheprovider", *paths, AFFECTED)


@pytest.mark.skipif(find_spec("mypy") is None, reason="the tools of make check are not installed")
def test_the_how_tos_pass_make_check(copy: Copy) -> None:
    for title in HOW_TOS:
        copy.follow(title)
    files = {block.file for title in HOW_TOS for block in blocks(title, "python", "diff")}
    copy.output("ruff", "check", "--no-cache", *files)
    copy.output("ruff", "format", "--check", "--no-cache", *files)
    copy.output("mypy", *files, AFFECTED)
    copy.output("-c", "from importlinter.cli import lint_imports_command as main; main()")


def test_a_block_that_does_not_fit_names_its_section_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\nthree\ntwo\n")
    for text, error in (
        (" four\n+five\n", "Add an option: a.py has no line 'four'"),
        (" one\n-three\n", "Add an option: a.py does not contain once:\none\nthree\n"),
        ("-two\n", "Add an option: a.py does not contain once:\ntwo\n"),
    ):
        with pytest.raises(DriftError, match=f"^{re.escape(error)}$"):
            Block(OPTION, "diff", "a.py", text).apply(tmp_path)
    with pytest.raises(DriftError, match=r"^Add an option: a\.py exists already$"):
        Block(OPTION, "python", "a.py", "one\n").apply(tmp_path)
    Block(OPTION, "diff", "a.py", "-one\n+four\n two\n").apply(tmp_path)
    assert (tmp_path / "a.py").read_text() == "four\ntwo\nthree\ntwo\n"


@pytest.mark.parametrize("title", HOW_TOS)
def test_every_step_names_the_file_of_its_blocks(title: str) -> None:
    steps = re.split(r"^\d+\. ", section(title), flags=re.MULTILINE)
    for step in steps:
        prose = BLOCK.sub("", step)
        for block in BLOCK.finditer(step):
            if block["language"] != "console":
                assert f"`{block['file']}`" in prose
