"""The command `manage.py celery_health`."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from celery_vitals.errors import ConfigError
from celery_vitals.health.text import lines
from celery_vitals.integrations.django.checker import new_checker
from celery_vitals.integrations.results import HealthResult

_NO_VERDICT = 3
_EXIT_CODES = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": _NO_VERDICT}


class Command(BaseCommand):  # type: ignore[misc]
    """Writes the verdict as `celery-vitals check` does."""

    help = (
        "Check the Celery cluster of this project: exit with 0 if healthy, 1 if degraded, 2 if"
        " unhealthy, 3 if there is no verdict."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--verbose", action="store_true", help="Show workers, queues, and what is unknown."
        )
        parser.add_argument(
            "--json", action="store_true", help="Write JSON, as of the path /health."
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Check, write the result, and exit with its code."""
        result = _checked()
        document = result.as_dict()
        if options["json"]:
            self.stdout.write(json.dumps(document, indent=2))
        else:
            verbose = options["verbose"] or options["verbosity"] > 1
            self.stdout.write("\n".join(lines(document, verbose, self._styled)))
        if code := _EXIT_CODES[result.status]:
            sys.exit(code)

    def _styled(self, text: str, status: str) -> str:
        styles = {
            "healthy": self.style.SUCCESS,
            "degraded": self.style.WARNING,
            "unhealthy": self.style.ERROR,
        }
        return styles[status](text) if status in styles else text


def _checked() -> HealthResult:
    try:
        checker = new_checker()
    except ConfigError as error:
        raise CommandError(str(error), returncode=_NO_VERDICT) from None
    try:
        return checker.check()
    finally:
        checker.stop()
