"""The command `healthy`."""

from __future__ import annotations

from typing import Any

import click

from celery_vitals.cli.one_line import PROGRAM, OneLineCommand
from celery_vitals.settings.click_options import CONFIG_FILE, ClickOption, all_options, settings_of
from celery_vitals.settings.options import Option

_TIMEOUT = 3.0


_OWN = ("web_listen_address", "web_config_file", CONFIG_FILE.parameter)


def _option(option: Option) -> ClickOption:
    found = ClickOption(option)
    found.hidden = option.parameter not in _OWN
    return found


@click.command(cls=OneLineCommand, params=[_option(option) for option in all_options()])
@click.pass_context
def healthy(ctx: click.Context, /, **_: Any) -> None:
    """Exit with 0 if the exporter on this machine responds, else with 1.

    For health checks of containers. Accepts every option of `serve`, and uses those that show where
    it listens.
    """
    from celery_vitals.web.health_check import is_healthy

    if not is_healthy(settings_of(ctx), _TIMEOUT):
        click.echo(f"{PROGRAM}: no response", err=True)
        ctx.exit(1)
