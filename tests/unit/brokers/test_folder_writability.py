"""Whether the folder of the file system transport accepts messages."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from celery_vitals.brokers.filesystem import FolderReader
from celery_vitals.brokers.writability import RefusalReason, Writability
from celery_vitals.deadline import Deadline


def read(folder: Path) -> Writability:
    return FolderReader(folder).read(Deadline.after(1))


def test_a_folder_with_space_is_writable(tmp_path: Path) -> None:
    assert read(tmp_path) == Writability(writable=True)


@pytest.mark.parametrize(
    ("flags", "free", "reason"),
    [(0, 0, RefusalReason.DISK), (os.ST_RDONLY, 100, RefusalReason.READ_ONLY)],
)
def test_a_full_or_read_only_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, free: int, reason: RefusalReason
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flags, f_bavail=free))
    assert read(tmp_path) == Writability.refused(reason)


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert read(tmp_path) == Writability.refused(RefusalReason.PERMISSION)
