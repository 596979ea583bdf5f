"""The command `serve`."""

from __future__ import annotations

import logging
from typing import Any

import click
from celery import Celery
from celery.bin.base import CLIContext

from celery_vitals import logging as logs
from celery_vitals._version import __version__
from celery_vitals.cli.one_line import PROGRAM, SECRETS, OneLineCommand
from celery_vitals.settings import Settings
from celery_vitals.settings.app_configuration import has_broker
from celery_vitals.settings.celery_app import load_app, load_configuration, secrets_of
from celery_vitals.settings.click_options import (
    CONFIG_CHECK,
    ClickOption,
    all_options,
    misspelled_variables,
    option_source,
    settings_of,
)
from celery_vitals.settings.options import ENVIRONMENT_PREFIX, options_of

log = logging.getLogger(__name__)

_EPILOG = (
    "Every option is also an environment variable (--web.listen-address is"
    f" {ENVIRONMENT_PREFIX}WEB_LISTEN_ADDRESS) and a key of the configuration file"
    " (web.listen-address). Precedence: flag, environment variable, configuration file, Celery app."
)

version_option = click.version_option(
    __version__, prog_name=PROGRAM, message="%(prog)s %(version)s"
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
    app = _celery_app(ctx, settings)
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
    from celery_vitals.web import serve as serve_web

    collector = Collector(settings, app)
    # Start after listening: an exporter that cannot listen never connects to the broker.
    ctx.exit(serve_web(collector, settings, lambda _: collector.start()))


def _celery_app(ctx: click.Context, settings: Settings) -> Celery | None:
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
