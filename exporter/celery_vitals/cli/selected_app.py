"""The Celery app that a command uses."""

from __future__ import annotations

import click
from celery import Celery
from celery.bin.base import CLIContext

from celery_vitals.settings import Settings
from celery_vitals.settings.app_configuration import has_broker
from celery_vitals.settings.celery_app import load_app, load_configuration
from celery_vitals.settings.click_options import option_source
from celery_vitals.settings.options import options_of


def selected_app(ctx: click.Context, settings: Settings) -> Celery | None:
    """Return the app of `--app`, else the app of the `celery` command."""
    outer = ctx.find_object(CLIContext)
    selected = outer is not None and ctx.find_root().params.get("app") is not None
    source = option_source(ctx, options_of(Settings)["app"])
    if settings.app and (source == "--app" or not selected):
        return load_app(settings.app)
    if outer is None:
        return None
    load_configuration(outer.app)
    # Without -A, celery creates an app, which counts only if the environment or a celeryconfig
    # configures its broker.
    return outer.app if selected or has_broker(outer.app.conf) else None
