"""The system checks: the settings always, the cluster with `manage.py check --deploy`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Info, Warning

from celery_vitals.errors import ConfigError
from celery_vitals.integrations.django.checker import new_checker
from celery_vitals.integrations.results import HealthResult

_LEVELS = {"unhealthy": Error, "degraded": Warning, "info": Info}


def check_settings(**_: Any) -> list[CheckMessage]:
    """Return why no checker can be created.  Connects to nothing."""
    try:
        new_checker()
    except ConfigError as error:
        return [Error(str(error), id="celery_vitals.E001")]
    return []


def check_cluster(**_: Any) -> list[CheckMessage]:
    """Return the findings of the cluster."""
    try:
        checker = new_checker()
    except ConfigError:
        return []  # the other check reports it
    try:
        return list(_messages(checker.check()))
    finally:
        checker.stop()


def _messages(result: HealthResult) -> Iterator[CheckMessage]:
    for finding in result.findings:
        level = _LEVELS[finding["severity"]]
        hint = finding["recommendation"] or None
        yield level(finding["message"], hint=hint, id=f"celery_vitals.{finding['code']}")
    if result.status == "unknown":
        for name, one in result.checks.items():
            if one.ok is None:
                yield Warning(f"{name}: {one.error}", id="celery_vitals.unknown")
