"""The commands.  They parse, build the settings, and start what was asked for.

The same group is the program `celery-vitals` and the command `vitals` of `celery`.  In both, whatever is wrong with
what the user gave is one line and exit code 2.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click
from celery import Celery
from celery.bin.base import CLIContext

from celery_vitals import logging as logs
from celery_vitals._version import __version__
from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Redactor
from celery_vitals.settings import Settings
from celery_vitals.settings.celery_app import has_broker, load_app, load_configuration, secrets_of
from celery_vitals.settings.click_options import (
    CONFIG_CHECK,
    ClickOption,
    all_options,
    mistyped,
    settings_of,
    source_of,
)
from celery_vitals.settings.model import CONFIGURATION
from celery_vitals.settings.options import ENVIRONMENT_PREFIX, options_of

log = logging.getLogger(__name__)

PROGRAM = "celery-vitals"
_HEALTHY_SECONDS = 3.0
_SECRETS = f"{__name__}.secrets"  # what the context knows that must not be shown
_EPILOG = (
    f"Every option is also an environment variable (--web.listen-address is {ENVIRONMENT_PREFIX}WEB_LISTEN_ADDRESS) "
    "and a key of the configuration file (web.listen-address). A flag beats the environment, which beats the file, "
    "which beats the Celery app."
)


class OneLineError(click.ClickException):
    """An error of the user's, shown as one line without secrets."""

    exit_code = 2

    def __init__(self, text: str, ctx: click.Context | None) -> None:
        secrets = ctx.meta.get(_SECRETS, ()) if ctx else ()
        words = " ".join(Redactor(secrets)(text).split())
        super().__init__(
            "".join(character if character.isprintable() else "?" for character in words)
        )

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line to standard error."""
        click.echo(f"{PROGRAM}: error: {self.message}", file=file, err=file is None)


@contextmanager
def _one_line(ctx: click.Context | None = None) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise OneLineError(_words(error), ctx or error.ctx) from None
    except ConfigError as error:
        raise OneLineError(str(error), ctx) from None


def _words(error: click.UsageError) -> str:
    if isinstance(error, click.BadParameter) and isinstance(error.param, ClickOption) and error.ctx:
        return f"{source_of(error.ctx, error.param.declared)}: {error.message}"
    return error.format_message()


class OneLineCommand(click.Command):
    """A command whose errors are one line, and whose help shows the options by their groups."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments."""
        with _one_line():
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; what is left over is not repeated in the error, for it may be a URL with a password."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise click.UsageError(
                f"{ctx.info_name} takes options only, but has an argument without one", ctx
            )
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run."""
        with _one_line(ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, a section for each group."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            group = param.declared.group if isinstance(param, ClickOption) else CONFIGURATION
            if record:
                sections.setdefault(group, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class OneLineGroup(click.Group):
    """A group whose errors are one line."""

    command_class = OneLineCommand

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments."""
        with _one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run."""
        with _one_line(ctx):
            return super().invoke(ctx)


_version = click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")


@click.group(cls=OneLineGroup, invoke_without_command=True)
@_version
@click.pass_context
def vitals(ctx: click.Context, /, **_: Any) -> None:
    """The vital signs of a Celery cluster, as Prometheus metrics."""
    # `_` holds options that an app has added to every command of `celery`, which Celery before 5.7 hands on.
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@vitals.command(params=[ClickOption(declared) for declared in all_options()], epilog=_EPILOG)
@_version
@click.pass_context
def serve(ctx: click.Context, /, **_: Any) -> None:
    """Answer Prometheus' scrapes, until stopped."""
    settings = settings_of(ctx)
    ctx.meta[_SECRETS] = list(settings.secrets())
    logs.set_up(settings)
    app = _app(ctx, settings)
    if app is not None:
        ctx.meta[_SECRETS].extend(secrets_of(app))
        logs.set_up(
            settings, ctx.meta[_SECRETS]
        )  # again: the import of an app may have changed the log
    for name, meant in mistyped():
        log.warning("%s is not read: did you mean %s?", name, meant)
    if ctx.params[CONFIG_CHECK.parameter]:
        _check(settings, app)
        click.echo("configuration is valid")
        return
    from celery_vitals.exporter import Collector
    from celery_vitals.web import serve as serve_web

    collector = Collector(settings, app)
    # Not before it listens: one that cannot leaves the broker alone, however often it is started again.
    ctx.exit(serve_web(collector, settings, lambda _: collector.start()))


@vitals.command(params=[ClickOption(declared) for declared in all_options()])
@click.pass_context
def healthy(ctx: click.Context, /, **_: Any) -> None:
    """Exit with 0 when the exporter on this machine answers, with 1 when not.

    For the health checks of containers: it takes the options of `serve`, to know where that listens.
    """
    from celery_vitals.web.health_check import alive

    if not alive(settings_of(ctx), _HEALTHY_SECONDS):
        click.echo(f"{PROGRAM}: no answer", err=True)
        ctx.exit(1)


@vitals.command()
@click.option("--once", is_flag=True, help="Print one good scrape and exit.")
@click.pass_context
def demo(ctx: click.Context, once: bool) -> None:
    """Show the exporter at a cluster made for it."""
    from celery_vitals.demo import run

    ctx.exit(run(once=once))


def _app(ctx: click.Context, settings: Settings) -> Celery | None:
    """The app of `--app`, else the one that `celery` was given."""
    outer = ctx.find_object(CLIContext)
    given = outer is not None and ctx.find_root().params.get("app") is not None
    flag = source_of(ctx, options_of(Settings)["app"])
    if settings.app and (flag == "--app" or not given):
        return load_app(settings.app)
    if outer is None:
        return None
    load_configuration(outer.app)
    # Without -A, celery makes up an app, which counts only when the environment or a celeryconfig gives it a broker.
    return outer.app if given or has_broker(outer.app) else None


def _check(settings: Settings, app: Celery | None) -> None:
    """Check what `serve` would find out only when it starts."""
    from celery_vitals.brokers.target import target_of
    from celery_vitals.web.config_reload import LiveConfig

    target_of(settings, app)
    if settings.web_config_file:
        LiveConfig(settings.web_config_file)


def main() -> None:
    """The program `celery-vitals`."""
    vitals(prog_name=PROGRAM)
