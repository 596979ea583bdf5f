"""The version of the program, repeated in the chart, the Dockerfile and compose.yaml."""

from __future__ import annotations

import re

from celery_vitals._version import __version__
from tools.base import ROOT, Files, Generator

REPEATED = (
    ("helm/celery-vitals/Chart.yaml", r"^version: .+$", "version: {}"),
    ("helm/celery-vitals/Chart.yaml", r"^appVersion: .+$", "appVersion: {}"),
    ("Dockerfile", r"^ARG VERSION=.+$", "ARG VERSION={}"),
    ("compose.yaml", r"^    image: celery-vitals(:.+)?$", "    image: celery-vitals:{}"),
)
"""File, pattern of the one line that repeats the version, and the line itself."""


def files() -> Files:
    """Return the files with the version of the program."""
    texts: dict[str, str] = {}
    for name, pattern, line in REPEATED:
        text = texts.get(name) or (ROOT / name).read_text()
        new = line.format(__version__)
        texts[name], count = re.subn(pattern, new, text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{name}: {count} lines match {pattern!r} (expected 1)")
    return {ROOT / name: text for name, text in texts.items()}


GENERATOR = Generator("versions", files)
