"""Commands whose errors are one line without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import IO, Any, cast

import click

from celery_vitals._version import __version__
from celery_vitals.errors import VitalsError
from celery_vitals.secrets import Redactor
from celery_vitals.settings.click_options import ClickOption, usage_message

PROGRAM = "celery-vitals"
SECRETS = f"{__name__}.secrets"
"""The key of `Context.meta` under which a command registers the secrets to redact."""

version_option = click.version_option(
    __version__, prog_name=PROGRAM, message="%(prog)s %(version)s"
)


class OneLineError(click.ClickException):
    """A user error, shown as one line without secrets."""

    exit_code = 2

    def __init__(self, text: str, ctx: click.Context | None) -> None:
        secrets = ctx.meta.get(SECRETS, ()) if ctx else ()
        line = " ".join(Redactor(secrets)(text).split())
        super().__init__("".join(one if one.isprintable() else "?" for one in line))

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line to standard error."""
        click.echo(f"{PROGRAM}: error: {self.message}", file=file, err=file is None)


@contextmanager
def _one_line(
    kind: type[OneLineError] = OneLineError, ctx: click.Context | None = None
) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise kind(usage_message(error), ctx or error.ctx) from None
    except VitalsError as error:
        raise kind(str(error), ctx) from None


class OneLineCommand(click.Command):
    """A command with one-line errors, whose help shows the options by group."""

    error: type[OneLineError] = OneLineError

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Parse the arguments."""
        with _one_line(self.error):
            return super().make_context(info_name, args, parent, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an unexpected argument is not quoted, as it may be a URL with a password."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            usage = " ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])
            raise click.UsageError(f"unexpected argument (usage: {usage})", ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run."""
        with _one_line(self.error, ctx):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group of options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            group = param.option.group if isinstance(param, ClickOption) else "Options"
            if record:
                sections.setdefault(group, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class NoVerdict(OneLineError):
    """There is no verdict."""

    exit_code = 3


class VerdictCommand(OneLineCommand):
    """A command whose exit codes 0, 1 and 2 are its verdict; 3 is wrong usage."""

    error = NoVerdict


class OneLineGroup(click.Group):
    """A group of commands with one-line errors, each in a module of its name.

    A module is imported when its command is used: they depend on different libraries.
    """

    def __init__(self, *args: Any, modules: Sequence[str], package: str, **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self._modules = tuple(modules)
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return sorted(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._modules:
            return None
        module = import_module(f"{self._package}.{cmd_name}")
        return cast("click.Command", getattr(module, cmd_name))

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
        with _one_line(ctx=ctx):
            return super().invoke(ctx)
