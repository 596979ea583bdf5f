"""The command `audit`: sources, exit codes and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import run

APP = """\
from celery import Celery
app = Celery('shop', broker='redis://:s3cret@127.0.0.1:1/0')
app.conf.update(broker_connection_retry_on_startup=True, task_time_limit=60)
@app.task(name='shop.pay')
def pay(): pass
"""
CELERY = (
    "from celery.bin.celery import celery; from celery_vitals.cli import vitals;"
    "celery.add_command(vitals); celery(auto_envvar_prefix='CELERY', prog_name='celery')"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(APP)
    (tmp_path / "eager.py").write_text(APP + "app.conf.task_always_eager = True\n")
    (tmp_path / "warns.py").write_text(APP + "app.conf.task_publish_retry = False\n")
    (tmp_path / "bad.py").write_text("raise RuntimeError('no redis://:s3cret@h')\n")
    (tmp_path / "partly.py").write_text(APP + "app.conf.imports = ['nosuch_module']\n")
    return tmp_path


def audit(folder: Path, *args: str) -> tuple[int, str, str]:
    done = run("-m", "celery_vitals", "audit", "--timeout", "2", *args, cwd=folder)
    assert "s3cret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("warns", 1), ("eager", 2)])
def test_broker_is_down_and_the_rules_of_the_app_still_run(
    folder: Path, name: str, code: int
) -> None:
    status, out, err = audit(folder, "-A", name)
    assert (status, err) == (code, "")
    assert "broker: connection refused" in out
    assert "redis_evicts" in out.partition("not checked")[2]


def test_json_and_celery_command(folder: Path) -> None:
    done = run("-c", CELERY, "-A", "eager", "vitals", "audit", "--json", cwd=folder)
    found = json.loads(done.stdout)
    assert done.returncode == found["exit_code"] == 2
    assert found["findings"][0]["code"] == "always_eager"
    assert found["subject"].startswith("eager on redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("-A", "bad"), "--app: cannot import bad: RuntimeError: no redis://***@h"),
        (("-A", "nosuch"), "--app: cannot import nosuch"),
        ((), "no broker: set --broker-url, or --app"),
        (("-A", "good", "--ignore", "nonsense"), "--ignore: unknown code 'nonsense'"),
        (("-A", "good", "--json", "--sarif"), "--json and --sarif are mutually exclusive"),
        (("-A", "good", "--nonsense"), "No such option"),
        (("-A", "good", "surplus"), "unexpected argument"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_3(
    folder: Path, args: tuple[str, ...], message: str
) -> None:
    status, out, err = audit(folder, *args)
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert message in err


def test_tasks_that_cannot_be_imported_are_reported(folder: Path) -> None:
    status, out, _ = audit(folder, "-A", "partly")
    assert status == 0
    assert "not every task of the app can be imported: ModuleNotFoundError" in out
    assert "beat_task_unregistered" in out.partition("not checked")[2]
