"""The command `audit`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click
from celery import Celery

from celery_vitals.cli.one_line import SECRETS, VerdictCommand
from celery_vitals.cli.selected_app import selected_app
from celery_vitals.secrets import Redactor, without_credentials
from celery_vitals.settings import Settings
from celery_vitals.settings.celery_app import secrets_of
from celery_vitals.settings.click_options import CONFIG_FILE, ClickOption, all_options, settings_of
from celery_vitals.settings.model import CLUSTER
from celery_vitals.settings.options import Option

_SHOWN = (CONFIG_FILE.parameter, "timeout")
_HIDDEN = ("queue", "queue_include", "queue_exclude", "queue_limit", "queue_priorities")
_TIMEOUT = "Time to wait for the broker and the workers, in seconds."


def _option(option: Option) -> ClickOption:
    if option.parameter == "timeout":
        option = replace(option, help=_TIMEOUT)
    found = ClickOption(option)
    shown = option.group == CLUSTER and option.parameter not in _HIDDEN
    found.hidden = not shown and option.parameter not in _SHOWN
    return found


@click.command(cls=VerdictCommand, params=[_option(option) for option in all_options()])
@click.option("--json", "as_json", is_flag=True, help="Write JSON (docs/schemas/audit.json).")
@click.option("--sarif", "as_sarif", is_flag=True, help="Write SARIF 2.1.0, for code hosts.")
@click.option("--ignore", multiple=True, metavar="CODE", help="Leave out a rule; repeatable.")
@click.pass_context
def audit(
    ctx: click.Context, /, *, as_json: bool, as_sarif: bool, ignore: tuple[str, ...], **_: Any
) -> None:
    """Report what will go wrong: settings, tasks, broker and workers that do not fit.

    Reads the settings and tasks of --app, the broker, and the workers that answer; changes nothing.
    Exit code 0 without errors and warnings, 1 with warnings, 2 with errors, 3 for wrong usage.
    """
    from celery_vitals import audit as auditing
    from celery_vitals.audit.document import document
    from celery_vitals.audit.sarif import sarif
    from celery_vitals.audit.text import text
    from celery_vitals.brokers.target import target_of

    if as_json and as_sarif:
        raise click.UsageError("--json and --sarif are mutually exclusive", ctx)
    settings = settings_of(ctx)
    ctx.meta[SECRETS] = list(settings.secrets())
    app = selected_app(ctx, settings)
    if app is not None:
        ctx.meta[SECRETS].extend(secrets_of(app))
    report = auditing.audit(
        target_of(settings, app), app, _name(ctx, settings, app), ignore, settings.timeout
    )
    # Findings name addresses, which a URL without credentials would redact.
    redact = Redactor(one for one in ctx.meta[SECRETS] if not _is_address(one.reveal()))
    if as_json or as_sarif:
        found = document(report) if as_json else sarif(report)
        click.echo(redact(json.dumps(found, indent=2, ensure_ascii=False)))
    else:
        click.echo(redact(text(report)))
    ctx.exit(report.exit_code)


def _is_address(secret: str) -> bool:
    return "://" in secret and without_credentials(secret) == secret


def _name(ctx: click.Context, settings: Settings, app: Celery | None) -> str:
    """Return the name of the app for `celery -A`; empty without an app."""
    if app is None:
        return ""
    given = ctx.find_root().params.get("app")
    return settings.app or (given if isinstance(given, str) else "") or str(app.main or "proj")
