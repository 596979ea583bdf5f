"""The generated pages of the manual: docs/options.md, docs/metrics.md and docs/brokers.md."""

from __future__ import annotations

from itertools import groupby

from celery_vitals.errors import Reason
from celery_vitals.events.rejections import DESCRIPTIONS
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

## New counters

`increase()` and `rate()` compare samples, so that they miss what a counter has at its first one:
the first failures of a task, and those after a start of the exporter. Therefore each Prometheus
server gets a new counter or histogram as 0 in its first scrape, and with its value in the next one.
A series that ended by `--series-forget-after` starts again in the same way. The metrics that
workers count themselves, from their `stats` replies, keep their values.

- A server is recognized by the header `X-Prometheus-Scrape-Timeout-Seconds` and by its connection;
  a new connection continues a closed one of its host. Inside an application, where connections do
  not last, the address alone counts. All servers that scrape get the zero before any of them gets
  the value. Nothing is held for longer than 150 seconds: a server that scrapes less often gets no
  zero.
- Other clients get all values at once, as does a registry of prometheus_client.
- What a new counter has counted when the exporter stops is lost unless two scrapes followed, and
  one scrape for the others; a second replica counts it.
- `increase()` also extrapolates to the ends of its range, by up to one scrape interval. The shipped
  rules do not, except in a range with a restart of the exporter ([alerts.md](alerts.md)).

Created timestamps (`_created`) would provide zeros as well, but Prometheus 2.42 cannot read them,
and later versions only with a feature flag. Zeros for all outcomes of all known tasks would
multiply the series, and still miss a task whose first failures are the first sign of it.
"""
_METRICS_TABLE = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|"
_TABLE = "| Flag | Environment | File key | Default | Meaning |\n|---|---|---|---|---|"

_REASONS = """\
## Reasons of failed probes

The values of `reason` of `celery_probe_failures_total`. The status page and the log of the exporter
have the message of the last error.

| Reason | Meaning | What to check |
|---|---|---|"""
_CHECKS = {
    Reason.AUTHENTICATION: "user and password in the URL or its Secret; whether it was rotated",
    Reason.CLOSED: "restarts of the server, its connection limit, a proxy between the two, and TLS",
    Reason.INTERNAL: "the traceback in the log; report it as a bug",
    Reason.NOT_FOUND: "the virtual host, database or table in the URL, and the user's access to it",
    Reason.PERMISSION: "the permissions of the user (docs/brokers.md)",
    Reason.PROTOCOL: "the port: it belongs to another service, or expects TLS",
    Reason.REFUSED: "whether the server runs and listens on this address and port",
    Reason.RESOLVE: "the host name in the URL, and DNS",
    Reason.STUCK: "the server and the network: the attempt before this one has not returned yet",
    Reason.TIMEOUT: "the load of the server, firewalls that drop packets, and the scrape timeout",
    Reason.TLS: "certificates and their expiry, trusted authorities, and the scheme of the URL",
    Reason.UNAVAILABLE: "the server's log: it is starting, read-only, or has no free connection",
    Reason.UNREACHABLE: "routes, firewalls and network policies",
}
_REJECTIONS = """\
## Reasons of rejected events

The values of `reason` of `celery_exporter_events_rejected_total`. All but `unknown_type` are logged
once, and reported on the status page as the blind spot `rejected_events`, until ten minutes have
passed without another one.

| Reason | Events are rejected because |
|---|---|"""


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
    reasons = (f"| `{one.value}` | {one.description} | {_CHECKS[one]} |" for one in Reason)
    rejections = (f"| `{reason}` | {text} |" for reason, text in sorted(DESCRIPTIONS.items()))
    return "\n".join([*parts, _REASONS, *reasons, "", _REJECTIONS, *rejections, ""])


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
