"""The generated pages of the manual: docs/options.md, docs/metrics.md and docs/brokers.md."""

from __future__ import annotations

from itertools import groupby

from celery_vitals.metrics.base import MetricDefinition
from celery_vitals.metrics.definitions import DEFINITIONS
from celery_vitals.settings.click_options import all_options
from celery_vitals.settings.options import Option
from tools.base import ROOT, Files, Generator
from tools.brokers_page import brokers_markdown

_OPTIONS = """\
# Options

Generated from `celery_vitals/settings/model.py`; do not edit.

Each option of `celery-vitals serve` can be set by a flag, by an environment variable, or by a key
of the YAML file of `--config.file`; the first of these that is set is used. Options that are not
set are read from the Celery app, if one is configured, and otherwise have their defaults.

- Repeatable options take several values in one variable, separated by commas or spaces, and a list
  in the file.
- `NAME=VALUE` options take a JSON object, or `NAME=VALUE` pairs separated by spaces, in their
  variable, and a mapping in the file.
- Setting both a secret and its file is an error. The newline at the end of the file is ignored.
- An empty environment variable counts as not set.
"""
_METRICS = """\
# Metrics

Generated from `celery_vitals/metrics/definitions.py`; do not edit.

Unknown values are absent, never 0. Times are Unix seconds. The metrics of a collector are absent
when the collector is disabled (`--no-collector.NAME`) or not selected by a scrape (`collect[]`,
`exclude[]`).
"""
_METRICS_TABLE = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|"
_TABLE = "| Flag | Environment | File key | Default | Meaning |\n|---|---|---|---|---|"


def options_markdown() -> str:
    """Return the whole page, in Markdown."""
    parts = [_OPTIONS]
    for group, options in groupby(all_options(), key=lambda declared: declared.group):
        parts.append("\n".join([f"## {group}\n", _TABLE, *map(_row, options), ""]))
    return "\n".join(parts)


def _row(declared: Option) -> str:
    key = declared.key if declared.in_file else ""
    cells = [declared.flags, declared.variable, key, declared.default_text]
    return f"| {' | '.join(f'`{cell}`' if cell else '' for cell in cells)} | {declared.help} |"


def metrics_markdown() -> str:
    """Return the whole page, in Markdown."""
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


def files() -> Files:
    """Return the pages by their paths."""
    docs = ROOT / "docs"
    return {
        docs / "options.md": options_markdown(),
        docs / "metrics.md": metrics_markdown(),
        docs / "brokers.md": brokers_markdown(),
    }


GENERATOR = Generator("reference pages", files)
