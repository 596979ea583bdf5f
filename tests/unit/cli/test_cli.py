"""The commands, in this process and in child processes, alone and under `celery`."""

from __future__ import annotations

import copy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from celery import Celery
from click.testing import CliRunner, Result

from celery_vitals import cli
from celery_vitals._version import __version__
from celery_vitals.cli import selected_app
from celery_vitals.cli import serve as serve_command
from celery_vitals.errors import ConfigError
from celery_vitals.settings import Settings
from celery_vitals.settings.click_options import all_options
from tests.support.command_line import BROKER, invoke, one_line, run, serve
from tests.support.exporter import Exporter
from tests.support.servers import wait_for

# `celery` with the command that the entry point of the package adds.
CELERY = (
    "from celery.bin.celery import celery; from celery_vitals.cli import vitals;"
    "celery.add_command(vitals); celery(auto_envvar_prefix='CELERY', prog_name='celery')"
)


def test_help_fits_a_terminal_and_names_every_option() -> None:
    result = CliRunner().invoke(cli.vitals, ["serve", "--help"], terminal_width=80)
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 80
    positions = [
        result.output.index(f"\n{group}:\n")
        for group in ("Cluster", "Timing", "Collectors", "Web", "Logging", "Configuration")
    ]
    assert positions == sorted(positions)
    for option in all_options():
        assert option.flags in result.output


@pytest.mark.parametrize("args", [["--version"], ["serve", "--version"]])
def test_version(args: list[str]) -> None:
    assert invoke(*args).output == f"celery-vitals {__version__}\n"


def test_without_a_command_help_is_shown() -> None:
    result = invoke()
    assert result.exit_code == 0
    assert "serve" in result.output


def test_config_check_of_valid_settings() -> None:
    result = serve("--broker-url", BROKER)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "configuration is valid\n", "")


def test_config_check_of_invalid_web_configuration(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("nonsense: 1\n")
    assert one_line(serve("--broker-url", BROKER, "--web.config.file", str(path))).startswith(
        "--web.config.file: "
    )


class Started(tuple[Any, ...]):
    """A fake collector: its arguments."""

    def start(self) -> None:
        """Do nothing."""


def started(monkeypatch: pytest.MonkeyPatch, serve_web: Any) -> Result:
    collector, web = ModuleType("collector"), ModuleType("web")
    monkeypatch.setattr(collector, "Collector", lambda *args: Started(args), raising=False)
    monkeypatch.setattr(web, "serve", serve_web, raising=False)
    monkeypatch.setitem(sys.modules, "celery_vitals.exporter", collector)
    monkeypatch.setitem(sys.modules, "celery_vitals.web.server", web)
    return invoke("serve", "--broker-url", "redis://:s3cret@h", "--timeout=3")


def test_serve_starts_the_server_and_passes_its_exit_code_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def record(*args: object) -> int:
        seen.append(args)
        return 3

    result = started(monkeypatch, record)
    assert result.exit_code == 3
    ((settings, app), same, _) = seen[0]
    assert settings is same
    assert settings.timeout == 3
    assert app is None


def test_error_at_startup_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise ConfigError("port 1 is in use,\nerror redis://:s3cret@h (s3cret)")

    assert one_line(started(monkeypatch, fail)) == "port 1 is in use, error *** (***)"


def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("demo")
    monkeypatch.setattr(module, "run", lambda once: 5 if once else 6, raising=False)
    monkeypatch.setitem(sys.modules, "celery_vitals.demo", module)
    assert invoke("demo", "--once").exit_code == 5
    assert invoke("demo").exit_code == 6


# Real processes


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "good.py").write_text(
        f"from celery import Celery\napp = Celery('good', broker='{BROKER}')\n"
    )
    (folder / "my-app.py").write_bytes((folder / "good.py").read_bytes())
    (folder / "bad.py").write_text("raise RuntimeError('no\\nredis://:s3cret@h')\n")
    (folder / "leaves.py").write_text("raise SystemExit(0)\n")
    (folder / "badconf.py").write_text(
        "from celery import Celery\napp = Celery('c', config_source='nosuch.config')\n"
    )
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_logs_its_version_at_the_start_and_a_line_at_the_end(number: signal.Signals) -> None:
    with Exporter("--broker-url", "memory://") as exporter:
        exporter.child.send_signal(number)
        wait_for(lambda: not exporter.child.alive)
        assert exporter.child.exit_code == 0
        first, *_, last = exporter.log.splitlines()
        assert first.endswith(f" msg=started version={__version__}")
        assert last.endswith(f" msg=stopped signal={number.name}")


def test_server_that_cannot_listen_does_not_connect_to_the_broker() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as broker,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        url, address = (f"127.0.0.1:{one.getsockname()[1]}" for one in (broker, taken))
        check(
            run(
                "-m",
                "celery_vitals",
                "serve",
                f"--broker-url=redis://{url}/0",
                f"--web.listen-address={address}",
            ),
            f"--web.listen-address: {address}: already in use",
        )
        broker.setblocking(False)
        with pytest.raises(BlockingIOError):
            broker.accept()


def check(process: subprocess.CompletedProcess[str], message: str) -> None:
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1, process.stderr
    assert process.stderr.startswith(f"celery-vitals: error: {message}")
    assert "s3cret" not in process.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--broker-url", "redis://:s3cret@h:port"], "--broker-url: invalid host or port"),
        (["--app", "bad"], "--app: cannot import bad: RuntimeError: no redis://***@h"),
        (["--app", "leaves"], "--app: cannot import leaves: SystemExit: 0"),
        (["--app", "badconf"], "--app: cannot read the configuration of c: "),
        (["--app", "no-such-app"], "--app: cannot import no-such-app: ModuleNotFoundError: "),
        (["--app", "./my-app.py"], "--app: must be MODULE or MODULE:APP, not './my-app.py'"),
    ],
)
def test_errors_of_the_program(project: Path, args: list[str], message: str) -> None:
    check(run("-m", "celery_vitals", "serve", *args, cwd=project), message)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-A", "good", "vitals", "serve", "--bad"], "No such option"),
        (
            ["-A", "good", "vitals", "serve", "--timeout=x"],
            "--timeout: must be a number of seconds",
        ),
        (["-A", "good", "vitals", "nonsense"], "No such command 'nonsense'"),
        (["-A", "good", "vitals", "serve", "--app=bad"], "--app: cannot import bad"),
        (["vitals", "serve", "--config.check"], "no broker"),
    ],
)
def test_errors_under_celery(project: Path, args: list[str], message: str) -> None:
    check(run("-c", CELERY, *args, cwd=project), message)


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "celery_vitals", "serve", "--app=good", "--config.check"],
        ["-m", "celery_vitals", "serve", "--app=good:app", "--config.check"],
        ["-m", "celery_vitals", "serve", "--app=my-app", "--config.check"],
        ["-m", "celery_vitals", "serve", "--app=my-app:app", "--config.check"],
        ["-c", CELERY, "-A", "good", "vitals", "serve", "--config.check"],
        ["-c", CELERY, "vitals", "serve", "-A", "good", "--config.check"],
        ["-c", CELERY, "-b", BROKER, "vitals", "serve", "--config.check"],
    ],
)
def test_an_app_gives_the_broker(project: Path, command: list[str]) -> None:
    process = run(*command, cwd=project)
    assert (process.returncode, process.stdout, process.stderr) == (
        0,
        "configuration is valid\n",
        "",
    )


def test_options_that_an_app_adds_to_every_command_are_ignored(project: Path) -> None:
    (project / "more.py").write_text(
        "import click\nfrom celery import Celery\n"
        f"app = Celery('more', broker='{BROKER}')\n"
        "app.user_options['preload'].add(click.Option(['--stage'], default='test'))\n"
    )
    process = run("-c", CELERY, "-A", "more", "vitals", "serve", "--config.check", cwd=project)
    assert (process.returncode, process.stdout) == (0, "configuration is valid\n"), process.stderr


def test_options_that_celery_passes_to_the_group_are_ignored() -> None:
    group = copy.copy(cli.vitals)
    group.params = [*group.params, click.Option(["--stage"])]
    assert CliRunner().invoke(group, ["--stage=test"]).exit_code == 0


def test_app_of_the_flag_precedes_the_app_of_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    from celery.bin.base import CLIContext

    outer, other = (
        Celery("outer", broker=BROKER, set_as_current=False),
        Celery("other", set_as_current=False),
    )
    monkeypatch.setattr(selected_app, "load_app", lambda _: other)
    monkeypatch.setattr("celery_vitals.logging.set_up", lambda *_: None)
    got: list[Celery | None] = []

    def check(_: Settings, app: Celery | None) -> None:
        got.append(app)

    monkeypatch.setattr(serve_command, "_check", check)

    @click.group()
    @click.option("--app")
    @click.pass_context
    def celery(ctx: click.Context, /, app: str | None) -> None:
        ctx.obj = CLIContext(outer, no_color=True, workdir=None)

    celery.add_command(cli.vitals)
    runner = CliRunner()
    for args in (["--app=x", "vitals"], ["vitals"]):
        runner.invoke(celery, [*args, "serve", "--config.check"])
        runner.invoke(celery, [*args, "serve", "--config.check"], env={"CELERY_VITALS_APP": "y"})
        runner.invoke(celery, [*args, "serve", "--config.check", "--app=y"])
    assert got == [outer, outer, other, outer, other, other]


def test_importing_the_package_starts_nothing() -> None:
    code = (
        "import threading, logging, sys; hook = sys.excepthook;"
        "import celery_vitals.cli, celery_vitals.settings, celery_vitals.logging;"
        "assert threading.active_count() == 1; assert sys.excepthook is hook;"
        "assert not logging.getLogger().handlers"
    )
    assert run("-c", code).returncode == 0
