from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from celery_vitals.demo.brokers import find
from celery_vitals.demo.cluster import environment, start_broker, start_workers
from celery_vitals.demo.processes import Supervisor
from tests.support.demo import wait_for

CLIENT = """
import json, time
from celery_vitals.demo import project
from celery_vitals.demo.project import app

order = project.place_order.apply_async(priority=9).get(timeout=30)
cards = [project.charge_card.delay() for _ in range(24)]
mails = [project.send_mail.delay() for _ in range(40)]
project.rush.delay(8)
for _ in range(3):
    project.yearly_report.delay()
for mail in mails:
    mail.get(timeout=30, propagate=False)
paid = [card.get(timeout=40, propagate=False) for card in cards]
video = project.render_video.delay()

def totals():
    replies = app.control.inspect(timeout=2).stats() or {}
    return {task: count for reply in replies.values() for task, count in reply["total"].items()}

deadline = time.monotonic() + 20
while totals().get("shop.place_order", 0) < 9 or not totals().get("shop.render_video"):
    assert time.monotonic() < deadline, totals()
    time.sleep(0.2)
stats = app.control.inspect(timeout=2).stats()
with app.connection_for_read() as connection:
    waiting = connection.default_channel._size("reports")
print(json.dumps({
    "order": order, "mails": sorted({mail.state for mail in mails}),
    "error": sorted({mail.result.__class__.__name__ for mail in mails}),
    "paid": paid.count("paid"), "totals": totals(), "waiting": waiting, "video": video.state,
    "pools": {
        name: [one["pool"]["implementation"], one["pool"]["max-concurrency"]]
        for name, one in stats.items()
    },
}))
"""


def run_client(env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_the_tasks_succeed_retry_fail_and_wait_as_documented(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Supervisor() as supervisor:
        broker = find(supervisor.folder, kind)
        env = environment(broker, supervisor.folder)
        start_broker(supervisor, broker, env)
        if broker.port:
            wait_for(lambda: listens(broker.port), 15, "the broker listens")
        start_workers(supervisor, env)
        seen = run_client(env)
        supervisor.check()
    assert isinstance(seen["order"], int)
    assert seen["mails"] == ["FAILURE", "SUCCESS"]
    assert seen["error"] == ["BadAddressError", "NoneType"]
    assert seen["paid"] > 0
    assert seen["totals"]["shop.charge_card"] > 24  # more attempts than cards: there were retries
    assert seen["totals"]["shop.place_order"] == 9
    assert "shop.yearly_report" not in seen["totals"]
    assert seen["waiting"] == 3
    assert seen["video"] in {"PENDING", "SUCCESS"}  # it runs long
    assert seen["pools"] == {
        "orders@demo": ["celery.concurrency.prefork:TaskPool", 3],
        "media@demo": ["celery.concurrency.thread:TaskPool", 4],
    }
    assert not list(tmp_path.iterdir())


def test_the_environment_has_no_settings_of_another_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CELERY_BROKER_WRITE_URL", "redis://production/0")
    monkeypatch.setenv("CELERY_VITALS_BROKER_URL", "redis://production/0")
    env = environment(find(tmp_path, "filesystem"), tmp_path)
    assert not [name for name, value in env.items() if "production" in value]
    assert env["PATH"] == os.environ["PATH"]
