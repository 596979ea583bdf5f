"""PromQL, put together so that it is right with any job name and any number of exporters.

Two exporters that watch the same cluster tell the same things twice.  Wherever values are added up, the copies are
first made one: `once()` keeps every label but those that tell replicas apart, so clusters that differ by job,
namespace or any other label of their own still add up.
"""

from __future__ import annotations

SCOPE = 'job=~"$job", instance=~"$instance"'
REPLICAS = "without (instance, pod)"
RANGE = "$__rate_interval"
NOW = "5m"
"""The window of what is said about the present: long enough for scrapes every minute."""


def of(metric: str, *matchers: str) -> str:
    """A metric of the chosen exporters; matchers such as `queue=~"$queue"`."""
    return f"{metric}{{{', '.join((SCOPE, *matchers))}}}"


def once(expression: str, how: str = "max") -> str:
    """One copy of what several replicas tell."""
    return f"{how} {REPLICAS} ({expression})"


def gauge(metric: str, *matchers: str, how: str = "max") -> str:
    """A gauge, each series once."""
    return once(of(metric, *matchers), how)


def age(metric: str, *matchers: str, how: str = "max") -> str:
    """The seconds since a time that is exported as a Unix time; `how` chooses among replicas."""
    return f"time() - {gauge(metric, *matchers, how=how)}"


def own(expression: str) -> str:
    """Only what is of our exporters: with any job allowed, `up` and the like would be everybody's.

    An exporter that is down has told for the last time within a day who it is.
    """
    return f"(({expression}) and on (job, instance) last_over_time({of('celery_exporter_build_info')}[1d]))"


def waiting(*matchers: str) -> str:
    """How long the oldest message of each queue has waited; nothing for a queue that the broker says is empty.

    Events do not tell of messages that were thrown away, so nothing is said while the broker cannot be asked.
    """
    oldest = most(age("celery_queue_oldest_message_timestamp_seconds", *matchers, how="min"), "queue")
    empty = f"{total(gauge('celery_queue_length', *matchers), 'queue')} == 0"
    return f"(({oldest} unless {empty}) and on () (max ({gauge('celery_broker_up')}) == 1))"


def rate(metric: str, *matchers: str, over: str = RANGE) -> str:
    """What a counter grows by in a second, each series once."""
    return once(f"rate({of(metric, *matchers)}[{over}])")


def increase(metric: str, *matchers: str, over: str) -> str:
    """What a counter has grown by, each series once."""
    return once(f"increase({of(metric, *matchers)}[{over}])")


def total(expression: str, *by: str) -> str:
    """The sum, by labels."""
    return f"sum{_by(by)} ({expression})"


def most(expression: str, *by: str) -> str:
    """The largest, by labels."""
    return f"max{_by(by)} ({expression})"


def least(expression: str, *by: str) -> str:
    """The smallest, by labels."""
    return f"min{_by(by)} ({expression})"


def top(expression: str, count: int = 10) -> str:
    """The largest series; the others are left out of the picture."""
    return f"topk({count}, {expression})"


def quantile(share: float, metric: str, *matchers: str, by: tuple[str, ...] = (), over: str = RANGE) -> str:
    """A quantile of a histogram, classic or converted to a native one, whichever Prometheus has.

    Replicas are averaged: `max` does not know native histograms, and a quantile does not change with the scale.
    """
    classic = total(once(f"rate({of(f'{metric}_bucket', *matchers)}[{over}])", "avg"), "le", *by)
    native = total(once(f"rate({of(metric, *matchers)}[{over}])", "avg"), *by)
    # Without observations it is no number, and left out.
    return f"(histogram_quantile({share:g}, {classic}) or histogram_quantile({share:g}, {native})) >= 0"


def buckets(metric: str, *matchers: str) -> str:
    """How many observations fell into each bucket, for a heat map; classic or converted, as above."""
    classic = total(once(f"increase({of(f'{metric}_bucket', *matchers)}[{RANGE}])"), "le")
    native = total(once(f"increase({of(metric, *matchers)}[{RANGE}])", "avg"))
    return f"{classic} or {native}"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
