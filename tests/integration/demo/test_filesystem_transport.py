from __future__ import annotations

import threading
from pathlib import Path

import pytest
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES

from celery_vitals.demo import filesystem_transport

MESSAGES = 2000


def test_no_reader_finds_an_incomplete_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(TRANSPORT_ALIASES, "filesystem", TRANSPORT_ALIASES["filesystem"])
    for name in ("messages", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    filesystem_transport.register()
    folder = str(tmp_path / "messages")
    options = {
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": str(tmp_path / "control"),
    }

    seen = set()
    with Connection("filesystem://", transport_options=options) as connection:
        queue = connection.SimpleQueue("numbers")
        writer = threading.Thread(
            target=lambda: [queue.put({"number": n, "text": "x" * 500}) for n in range(MESSAGES)]
        )
        writer.start()
        with connection.clone() as other:
            reader = other.SimpleQueue("numbers")
            for _ in range(MESSAGES):
                message = reader.get(timeout=20)
                message.ack()
                seen.add(message.payload["number"])
        writer.join()
    assert seen == set(range(MESSAGES))
    assert not list((tmp_path / "messages").iterdir())
    assert not list((tmp_path / "tmp").iterdir())
