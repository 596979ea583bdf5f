"""The command `healthy`."""

from __future__ import annotations

from typing import Any

import click

from celery_vitals.cli.one_line import PROGRAM, OneLineCommand
from celery_vitals.settings.click_options import ClickOption, all_options, settings_of

_TIMEOUT = 3.0


@click.command(cls=OneLineCommand, params=[ClickOption(option) for option in all_options()])
@click.pass_context
def healthy(ctx: click.Context, /, **_: Any) -> None:
    """Exit with 0 if the exporter on this machine responds, else with 1.

    For health checks of containers. Accepts the options of `serve` to find its address.
    """
    from celery_vitals.web.health_check import is_healthy

    if not is_healthy(settings_of(ctx), _TIMEOUT):
        click.echo(f"{PROGRAM}: no response", err=True)
        ctx.exit(1)
