"""PromQL builders that work with any job name and any number of exporters.

Exporter replicas that watch the same cluster export the same values.  Before values are added up,
the replicas are merged: `deduplicate()` keeps every label except those that differ between
replicas, so clusters that differ in job, namespace or any other label still add up.
"""

from __future__ import annotations

SCOPE = 'job=~"$job", instance=~"$instance"'
REPLICAS = "without (instance, pod)"
RATE_INTERVAL = "$__rate_interval"
RECENT = "5m"
"""The window of panels about the present: long enough for a scrape interval of a minute."""


_OUTCOMES = (
    "sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried",
)  # fmt: skip
SHARED_NAMES = {
    "celery_worker_up": "worker",
    "celery_queue_length": "queue",
    **{f"celery_task_{outcome}_total": "task" for outcome in _OUTCOMES},
}
"""Metrics whose name other exporters use too, and a label that only ours have."""


def selector(metric: str, *matchers: str) -> str:
    """Select a metric of the chosen exporters; matchers look like `queue=~"$queue"`.

    Excludes the series of other exporters, as the rules do.
    """
    own = SHARED_NAMES.get(metric)
    given = {one.partition("=")[0] for one in matchers}
    foreign = (f'{own}!=""',) if own and own not in given else ()
    return f"{metric}{{{', '.join((SCOPE, *matchers, *foreign))}}}"


def deduplicate(expression: str, aggregation: str = "max") -> str:
    """Merge the replicas of each series."""
    return f"{aggregation} {REPLICAS} ({expression})"


def gauge(metric: str, *matchers: str, aggregation: str = "max") -> str:
    """Return a gauge, with replicas merged."""
    return deduplicate(selector(metric, *matchers), aggregation)


def age(metric: str, *matchers: str, aggregation: str = "max") -> str:
    """Return the seconds since a Unix timestamp; `aggregation` merges the replicas."""
    return f"time() - {gauge(metric, *matchers, aggregation=aggregation)}"


def exporters_only(expression: str) -> str:
    """Keep series of celery-vitals exporters: the default job matches every `up` series.

    Looks back one day, so that an exporter that is down still counts as one.
    """
    build_info = selector("celery_exporter_build_info")
    return f"(({expression}) and on (job, instance) last_over_time({build_info}[1d]))"


def oldest_message_age(*matchers: str) -> str:
    """Return the age of the oldest message of each queue, for queues that are not empty.

    Purged messages send no events, so the result is empty while the broker is down and the queue
    length is unknown.
    """
    timestamp = "celery_queue_oldest_message_timestamp_seconds"
    oldest = max_by(age(timestamp, *matchers, aggregation="min"), "queue")
    empty = f"{sum_by(gauge('celery_queue_length', *matchers), 'queue')} == 0"
    return f"(({oldest} unless {empty}) and on () (max ({gauge('celery_broker_up')}) == 1))"


def rate(metric: str, *matchers: str, over: str = RATE_INTERVAL) -> str:
    """Return the rate of a counter per second, with replicas merged."""
    return deduplicate(f"rate({selector(metric, *matchers)}[{over}])")


def increase(metric: str, *matchers: str, over: str) -> str:
    """Return the increase of a counter, with replicas merged."""
    return deduplicate(f"increase({selector(metric, *matchers)}[{over}])")


def sum_by(expression: str, *labels: str) -> str:
    """Return the sum by labels, or over all series."""
    return f"sum{_by(labels)} ({expression})"


def max_by(expression: str, *labels: str) -> str:
    """Return the maximum by labels, or over all series."""
    return f"max{_by(labels)} ({expression})"


def min_by(expression: str, *labels: str) -> str:
    """Return the minimum by labels, or over all series."""
    return f"min{_by(labels)} ({expression})"


def topk(expression: str, count: int = 10) -> str:
    """Keep the largest series."""
    return f"topk({count}, {expression})"


def quantile(
    q: float, metric: str, *matchers: str, by: tuple[str, ...] = (), over: str = RATE_INTERVAL
) -> str:
    """Return a quantile of a classic histogram, or of a native one with custom buckets.

    Replicas are averaged: `max` does not support native histograms, and scaling does not change a
    quantile.
    """
    bucket_rate = f"rate({selector(f'{metric}_bucket', *matchers)}[{over}])"
    classic = sum_by(deduplicate(bucket_rate, "avg"), "le", *by)
    native = sum_by(deduplicate(f"rate({selector(metric, *matchers)}[{over}])", "avg"), *by)
    # `>= 0` drops NaN, the quantile of no observations.
    return f"(histogram_quantile({q:g}, {classic}) or histogram_quantile({q:g}, {native})) >= 0"


def buckets(metric: str, *matchers: str) -> str:
    """Return the observations of each bucket for a heatmap, from either kind of histogram."""
    bucket_increase = f"increase({selector(f'{metric}_bucket', *matchers)}[{RATE_INTERVAL}])"
    classic = sum_by(deduplicate(bucket_increase), "le")
    native_increase = f"increase({selector(metric, *matchers)}[{RATE_INTERVAL}])"
    return f"{classic} or {sum_by(deduplicate(native_increase, 'avg'))}"


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
