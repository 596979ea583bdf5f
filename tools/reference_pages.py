"""The parts of the manual that are generated: docs/options.md, docs/metrics.md and docs/brokers.md.

`python -m tools.reference_pages FOLDER` writes them; with `--check` it fails when they are not what it would write.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import click

from celery_vitals.metrics.base import MetricDefinition
from celery_vitals.metrics.definitions import DEFINITIONS
from celery_vitals.settings.click_options import all_options
from celery_vitals.settings.options import Option
from tools.brokers_page import brokers_markdown

_OPTIONS = """\
# Options

Generated from `celery_vitals/settings/model.py`; do not edit.

Every option of `celery-vitals serve` can be given in three ways, of which the first in this row wins: as a flag, as an
environment variable, as a key of the YAML file that `--config.file` names. What is given in none of them is taken from
the Celery app, where there is one, and else has its default.

- A repeatable option takes several values in one variable, separated by commas or spaces, and a list in the file.
- `NAME=VALUE` options take a JSON object, or `NAME=VALUE` words separated by spaces, in their variable, and a mapping
  in the file.
- A secret and the file that holds it cannot both be given. The newline at the end of such a file does not count.
- An empty environment variable is one that is not given.
"""
_METRICS = """\
# Metrics

Generated from `celery_vitals/metrics/definitions.py`; do not edit.

A metric that is not known is absent; it is never 0 instead. Times are Unix seconds. The metrics of a collector are left
out when the collector is off (`--no-collector.NAME`) or not chosen by a scrape (`collect[]`, `exclude[]`).
"""
_METRICS_TABLE = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|"
_TABLE = "| Flag | Environment | File key | Default | Meaning |\n|---|---|---|---|---|"


def options_markdown() -> str:
    """The whole page, in Markdown."""
    parts = [_OPTIONS]
    for group, options in groupby(all_options(), key=lambda declared: declared.group):
        parts.append("\n".join([f"## {group}\n", _TABLE, *map(_row, options), ""]))
    return "\n".join(parts)


def _row(declared: Option) -> str:
    key = declared.key if declared.in_file else ""
    cells = [declared.flags, declared.variable, key, declared.default_text]
    return f"| {' | '.join(f'`{cell}`' if cell else '' for cell in cells)} | {declared.help} |"


def metrics_markdown() -> str:
    """The whole page, in Markdown."""
    parts = [_METRICS]
    for collector, metrics in groupby(DEFINITIONS, key=lambda declared: declared.collector):
        parts.append(
            "\n".join(
                [f"## Collector {collector}\n", _METRICS_TABLE, *map(_metric_row, metrics), ""]
            )
        )
    return "\n".join(parts)


def _metric_row(metric: MetricDefinition) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind.value} | {labels} | {metric.help} |"


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--check", is_flag=True, help="Write nothing; fail when a page is not what would be written."
)
def main(folder: Path, check: bool) -> None:
    """Write the generated pages of the manual into FOLDER."""
    pages = {
        "options.md": options_markdown(),
        "metrics.md": metrics_markdown(),
        "brokers.md": brokers_markdown(),
    }
    for name, text in pages.items():
        page = folder / name
        if not check:
            page.write_text(text)
        elif not page.exists() or page.read_text() != text:
            raise click.ClickException(f"{page} is stale: run `make docs`")


if __name__ == "__main__":
    main()
