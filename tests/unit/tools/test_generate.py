"""`make generate` and `make check`: stale files, private words, pins."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from tools import generate, pins, vocabulary
from tools.base import Generator
from tools.chart import links


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one generator, and with one file that it no longer generates."""
    monkeypatch.setattr("tools.base.ROOT", tmp_path)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    generator = Generator("test", lambda: {tmp_path / "out" / "a.md": "new\n"}, owned=("out/*",))
    monkeypatch.setattr(generate, "generators", lambda: [generator])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.md").write_text("old\n")
    return tmp_path


def test_check_names_stale_files_and_the_command_and_writes_nothing(folder: Path) -> None:
    result = CliRunner().invoke(generate.main, ["--check"])
    assert result.exit_code == 1
    assert sorted(result.output.splitlines()) == [
        "out/a.md is stale: run `make generate`",
        "out/b.md is stale: run `make generate`",
    ]
    assert [path.name for path in folder.glob("out/*")] == ["b.md"]


def test_generate_writes_stale_files_and_removes_others(folder: Path) -> None:
    assert CliRunner().invoke(generate.main, []).exit_code == 0
    assert (folder / "out" / "a.md").read_text() == "new\n"
    assert not (folder / "out" / "b.md").exists()
    assert CliRunner().invoke(generate.main, ["--check"]).output == ""


def test_copy_in_place_of_a_link_is_stale(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, link = folder / "source.yml", folder / "chart" / "files" / "rules.yml"
    source.write_text("groups: []\n")
    link.parent.mkdir(parents=True)
    link.write_text("groups: []\n")
    generator = Generator("links", lambda: {link: source})
    monkeypatch.setattr(generate, "generators", lambda: [generator])
    check = CliRunner().invoke(generate.main, ["--check"])
    assert check.output == "chart/files/rules.yml is stale: run `make generate`\n"
    assert CliRunner().invoke(generate.main, []).exit_code == 0
    assert link.readlink() == Path("../../source.yml")
    assert CliRunner().invoke(generate.main, ["--check"]).exit_code == 0
    link.unlink()
    link.symlink_to(folder / "elsewhere.yml")
    assert CliRunner().invoke(generate.main, ["--check"]).exit_code == 1


def test_rules_and_dashboards_of_the_chart_are_links() -> None:
    found = links.GENERATOR.files()
    assert len(found) > 4
    assert all(path.is_symlink() for path in found)
    assert links.GENERATOR.stale() == {}


def test_vocabulary_finds_private_words_in_identifiers_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(
        "# told in a comment\nclass FleetView: ...\nx = 'told'\ne.add_note(threshold_told)\n"
    )
    assert list(vocabulary.violations(tmp_path)) == [
        "a.py:2: identifier FleetView (use: worker registry)",
        "a.py:4: identifier threshold_told (use: report, log, return)",
    ]
    assert vocabulary.counts(tmp_path)["told"] == 3


def test_pins_report_unsatisfied_requirements_and_versions_that_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "ROOT", tmp_path)
    (tmp_path / "base.txt").write_text("redis==5.0 \\\n    --hash=sha256:0\n")
    (tmp_path / "run.txt").write_text("redis==6.0 ; python_version < '4' \\\n")
    file = pins.PinFile("run.txt", base="base.txt")
    declared = {"project": {"dependencies": ["redis>=7", "click>=8"]}, "dependency-groups": {}}
    assert list(pins.faults(file, declared)) == [
        "pins 6.0 of redis>=7",
        "pins no version of click>=8",
        "pins redis 6.0, base.txt 5.0",
    ]
