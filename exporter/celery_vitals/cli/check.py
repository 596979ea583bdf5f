"""The command `check`."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from celery_vitals import logging as logs
from celery_vitals.cli.one_line import PROGRAM, SECRETS, VerdictCommand
from celery_vitals.cli.spinner import spinner
from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError, VitalsError
from celery_vitals.health.nagios import nagios_line
from celery_vitals.health.text import lines, plain
from celery_vitals.secrets import Secret
from celery_vitals.settings.click_options import (
    ClickOption,
    all_options,
    option_source,
    settings_of,
    value_of,
)
from celery_vitals.settings.model import CLUSTER, CONFIGURATION, HEALTH
from celery_vitals.settings.options import Option
from celery_vitals.settings.terminal import wants_color
from celery_vitals.settings.urls import http_url

if TYPE_CHECKING:
    from celery_vitals.exporter import Collector

_EXIT_CODES = {"healthy": 0, "degraded": 1, "unhealthy": 2, "unknown": 3}
_COLORS = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}
_WATCH_SECONDS = 5.0
_CLOSE_SECONDS = 1.0
_URL = Option(
    "--url", "URL of a running exporter to ask, instead of the broker and the workers.",
    "Exporter", http_url, "URL", secret=True, in_file=False,
)  # fmt: skip
_SHOWN = (CLUSTER, HEALTH, CONFIGURATION, _URL.group)
_WITH_URL = ("timeout",)
"""The parameters of Settings that apply to a running exporter."""

Document = Mapping[str, Any]


def _options() -> Iterator[ClickOption]:
    for option in (*_URL.expanded(), *all_options()):
        if option.parameter == "health_min_workers":
            option = replace(option, short="--min-workers")
        shown = option.group in _SHOWN or option.parameter in _WITH_URL
        found = ClickOption(option)
        found.hidden = not shown
        yield found


@click.command(cls=VerdictCommand, params=list(_options()))
@click.option("--verbose", "-v", is_flag=True, help="Show workers, queues, and what is unknown.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON, as of the path /health.")
@click.option("--nagios", is_flag=True, help="Write a line with performance data, for Nagios.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value=_WATCH_SECONDS,
    type=click.FloatRange(min=0.1),
    metavar="[SECONDS]",
    help="Check repeatedly, every 5 seconds by default, until stopped.",
)
@click.pass_context
def check(
    ctx: click.Context,
    /,
    verbose: bool,
    as_json: bool,
    nagios: bool,
    watch: float | None,
    **_: Any,
) -> None:
    """Check a Celery cluster: exit with 0 if healthy, 1 if degraded, 2 if unhealthy.

    Exit with 3 if there is no verdict: wrong usage, or nothing could be observed.
    """
    if as_json and nagios:
        raise click.UsageError("--json and --nagios are mutually exclusive")
    write = _write_json if as_json else _write_nagios if nagios else _writer(verbose)
    if verbose:
        logs.set_up(settings_of(ctx))
    else:  # the findings have the reasons
        logging.getLogger("celery_vitals").addHandler(logging.NullHandler())
    with _source(ctx) as request:
        document = _checked(request, write)
        if watch is not None:
            document = _watched(request, write, watch, document, as_json or nagios)
    ctx.exit(_EXIT_CODES[document["status"]])


def _checked(request: Callable[[], Document], write: Callable[[Document], None]) -> Document:
    with spinner("checking"):
        document = request()
    write(document)
    return document


def _watched(
    request: Callable[[], Document],
    write: Callable[[Document], None],
    every: float,
    document: Document,
    lines_only: bool,
) -> Document:
    """Check until SIGINT, and return the last document; an exporter may be away meanwhile."""
    try:
        while True:
            time.sleep(every)
            if not lines_only:
                _separate()
            try:
                document = _checked(request, write)
            except VitalsError as error:
                click.echo(f"{PROGRAM}: error: {error}", err=True)
    except KeyboardInterrupt:
        return document


@contextmanager
def _source(ctx: click.Context) -> Iterator[Callable[[], Document]]:
    """Return what requests a document: from a running exporter, or from the broker."""
    url: Secret | None = value_of(ctx, _URL)
    settings = settings_of(ctx)
    ctx.meta[SECRETS] = list(settings.secrets())
    if url is not None:
        if "@" in url.reveal():
            ctx.meta[SECRETS].append(url)
        _reject_options_of_the_cluster(ctx)
        from celery_vitals.web.health_client import request_health

        yield lambda: request_health(url, settings.timeout)
        return
    from celery_vitals.cli.selected_app import selected_app
    from celery_vitals.collectors.tasks import TasksCollector
    from celery_vitals.exporter import Collector
    from celery_vitals.settings.celery_app import secrets_of

    app = selected_app(ctx, settings)
    if app is not None:
        ctx.meta[SECRETS].extend(secrets_of(app))
    # Task events of the few seconds of a check show nothing.
    collectors = settings.collectors - {TasksCollector.name}
    collector = Collector(replace(settings, collectors=collectors), app)
    try:
        yield lambda: _probe(collector)
    finally:
        collector.close(Deadline.after(_CLOSE_SECONDS))


def _probe(collector: Collector) -> Document:
    collector.refresh(0)
    return collector.health()


def _reject_options_of_the_cluster(ctx: click.Context) -> None:
    for option in all_options():
        given = option_source(ctx, option)
        if given == option.flag and option.parameter not in _WITH_URL:
            raise ConfigError(f"{option.flag} has no effect with --url (the exporter decides it)")


def _writer(verbose: bool) -> Callable[[Document], None]:
    style = _style if wants_color() else plain

    def write(document: Document) -> None:
        click.echo("\n".join(lines(document, verbose, style)))

    return write


def _style(text: str, status: str) -> str:
    return click.style(text, fg=_COLORS[status]) if status in _COLORS else text


def _write_json(document: Document) -> None:
    click.echo(json.dumps(document, indent=2))


def _write_nagios(document: Document) -> None:
    click.echo(nagios_line(document))


def _separate() -> None:
    """Clear the terminal; without one, leave an empty line between two results."""
    if os.isatty(1):
        click.clear()
    else:
        click.echo()
