"""The command `serve`."""

from __future__ import annotations

import logging
from typing import Any

import click
from celery import Celery

from celery_vitals import logging as logs
from celery_vitals.cli.one_line import SECRETS, OneLineCommand, version_option
from celery_vitals.cli.selected_app import selected_app
from celery_vitals.settings import Settings
from celery_vitals.settings.celery_app import secrets_of
from celery_vitals.settings.click_options import (
    CONFIG_CHECK,
    ClickOption,
    all_options,
    misspelled_variables,
    settings_of,
)
from celery_vitals.settings.options import ENVIRONMENT_PREFIX

log = logging.getLogger(__name__)

_EPILOG = (
    "Every option is also an environment variable (--web.listen-address is"
    f" {ENVIRONMENT_PREFIX}WEB_LISTEN_ADDRESS) and a key of the configuration file"
    " (web.listen-address). Precedence: flag, environment variable, configuration file, Celery app."
)


@click.command(
    cls=OneLineCommand,
    params=[ClickOption(option) for option in all_options()],
    epilog=_EPILOG,
)
@version_option
@click.pass_context
def serve(ctx: click.Context, /, **_: Any) -> None:
    """Serve the metrics over HTTP until stopped."""
    settings = settings_of(ctx)
    ctx.meta[SECRETS] = list(settings.secrets())
    logs.set_up(settings)
    app = selected_app(ctx, settings)
    if app is not None:
        ctx.meta[SECRETS].extend(secrets_of(app))
        # Again: the import of an app may change the configuration of the log.
        logs.set_up(settings, ctx.meta[SECRETS])
    for name, suggestion in misspelled_variables():
        log.warning("unknown environment variable %s (did you mean %s?)", name, suggestion)
    if ctx.params[CONFIG_CHECK.parameter]:
        _check(settings, app)
        click.echo("configuration is valid")
        return
    from celery_vitals.exporter import Collector
    from celery_vitals.web.server import serve as serve_web

    collector = Collector(settings, app)
    # Start after listening: an exporter that cannot listen never connects to the broker.
    ctx.exit(serve_web(collector, settings, lambda _: collector.start()))


def _check(settings: Settings, app: Celery | None) -> None:
    """Check what `serve` otherwise checks at its start."""
    from celery_vitals.brokers.target import target_of
    from celery_vitals.collectors.backend import BackendCollector
    from celery_vitals.health.limits import HealthLimits
    from celery_vitals.result_backends.checks import check_backend
    from celery_vitals.web.config_reload import ReloadingConfig

    target = target_of(settings, app)
    if BackendCollector.name in settings.collectors:
        check_backend(target)
    HealthLimits.of(settings, app)
    if settings.web_config_file:
        ReloadingConfig(settings.web_config_file)
