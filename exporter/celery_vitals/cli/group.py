"""The group of all commands, and the entry point of the program."""

from __future__ import annotations

from typing import Any

import click

from celery_vitals.cli.one_line import PROGRAM, OneLineGroup, version_option


@click.group(
    cls=OneLineGroup,
    invoke_without_command=True,
    modules=("audit", "check", "demo", "export", "healthy", "serve"),
    package=__package__,
)
@version_option
@click.pass_context
def vitals(ctx: click.Context, /, **_: Any) -> None:
    """Prometheus exporter for Celery."""
    # `_`: options that an app adds to every command of `celery`; Celery before 5.7 passes them on.
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the program `celery-vitals`."""
    vitals(prog_name=PROGRAM)
