"""Commands whose errors are one line without secrets, with exit code 2."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from celery_vitals.errors import ConfigError
from celery_vitals.secrets import Redactor
from celery_vitals.settings.click_options import ClickOption, usage_message

PROGRAM = "celery-vitals"
SECRETS = f"{__name__}.secrets"
"""The key of `Context.meta` under which a command registers the secrets to redact."""


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
def _one_line(ctx: click.Context | None = None) -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise OneLineError(usage_message(error), ctx or error.ctx) from None
    except ConfigError as error:
        raise OneLineError(str(error), ctx) from None


class OneLineCommand(click.Command):
    """A command with one-line errors, whose help shows the options by group."""

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
        """Parse; an unexpected argument is not quoted, as it may be a URL with a password."""
        ctx.allow_extra_args = True
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            usage = " ".join([ctx.command_path, *self.collect_usage_pieces(ctx)])
            raise click.UsageError(f"unexpected argument (usage: {usage})", ctx)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run."""
        with _one_line(ctx):
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


class OneLineGroup(click.Group):
    """A group of commands with one-line errors."""

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
