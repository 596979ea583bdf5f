"""The command `demo`."""

from __future__ import annotations

import click

from celery_vitals.cli.one_line import OneLineCommand


@click.command(cls=OneLineCommand)
@click.option("--once", is_flag=True, help="Print one successful scrape and exit.")
@click.pass_context
def demo(ctx: click.Context, once: bool) -> None:
    """Run the exporter against a temporary cluster."""
    from celery_vitals.demo import run

    ctx.exit(run(once=once))
