"""`HealthChecker`: the verdict on a cluster, for programs of Python."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from celery import Celery

from celery_vitals.deadline import Deadline
from celery_vitals.errors import ConfigError
from celery_vitals.health.codes import Status
from celery_vitals.integrations.caches import cache_of
from celery_vitals.integrations.checks import Check, GivenChecks
from celery_vitals.integrations.cluster import Cluster
from celery_vitals.integrations.process import CheckerProcess
from celery_vitals.integrations.results import Document, HealthResult
from celery_vitals.integrations.rounds import Prober, Rounds
from celery_vitals.web.threads import in_thread

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)


class HealthChecker:
    """Checks a Celery cluster, on demand and in the background.

    `app` is the Celery app or its name; `options` are those of `celery-vitals serve`, with
    underscores.  `cache` is the URL or the client of a Redis: then one of the processes that share
    it probes, and the others read its results; by default each process probes.  Results older than
    `interval` seconds are replaced.  `checks` replace the probes of the cluster.

    Threads share the rounds of probes.  A process that was forked has connections and a thread of
    its own, from its first use of the checker on.  Raises ConfigError, whose text is one line.
    """

    def __init__(
        self,
        app: Celery | str | None = None,
        cache: Any = None,
        interval: float = 30.0,
        *,
        checks: Iterable[Check] | None = None,
        **options: Any,
    ) -> None:
        self.interval = _seconds(interval)
        self._cache = cache_of(cache)
        self._prober: Prober = (
            Cluster("HealthChecker", app, options)
            if checks is None
            else GivenChecks(checks, **_only_timeout(options))
        )
        self._stale_after = 2 * self.interval + self._prober.timeout
        self._rounds = Rounds(self._prober, self._cache, self._stale_after)
        self._monitoring = False
        # A fork keeps the state of its parent: a lock of it may have been held at that moment.
        self._processes: dict[int, CheckerProcess] = {}

    def check(self) -> HealthResult:
        """Check the cluster now, within the option `timeout`.

        Calls at the same time share a round that begins after them.  When it does not end in time,
        the last result is returned, or one that is unknown; its `error` has the reason.
        """
        if self._rounds.stopped:
            log.warning("HealthChecker.check() after stop(): it opens connections for one round")
        return self._since(time.monotonic())

    async def acheck(self) -> HealthResult:
        """Check the cluster now, as `check`, without blocking the event loop."""
        return await in_thread(self.check, "celery-vitals-check")

    def read(self) -> HealthResult:
        """Return the last result; check first where it is too old, or there is none."""
        result = self.last
        if result is None or result.age > self._stale_after:
            return self._since(time.monotonic() - self.interval)
        return result

    async def aread(self) -> HealthResult:
        """Return the last result, as `read`, without blocking the event loop."""
        result = self.last
        if result is None or result.age > self._stale_after:
            return await in_thread(self.read, "celery-vitals-read")
        return result

    @property
    def last(self) -> HealthResult | None:
        """The last result; None before the first one.  Does not block.

        One that is older than the interval starts a new check in the background, and one that is
        too old to prove anything is unknown.
        """
        process = self._process()
        if not process.monitored and process.due_in <= 0:
            process.start_round(time.monotonic() - self.interval, background=True)
        return self._judged(process.result) if process.result is not None else None

    @property
    def is_healthy(self) -> bool:
        """Whether the last result is healthy or degraded.  Does not block.

        False before the first result, which `start`, `check` or an earlier read provides.
        """
        result = self.last
        return result is not None and result.healthy

    def stats(self) -> Document:
        """Return what the checker of this process has done.  Does not block."""
        process = self._process()
        counts, found = process.counts, process.result
        result = self._judged(found) if found is not None else None
        return {
            "status": result.status if result is not None else None,
            "age_seconds": round(result.age, 3) if result is not None else None,
            "interval_seconds": self.interval,
            "running": process.monitored,
            "stopped": self._rounds.stopped,
            "rounds": {
                "probed": counts.probed,
                "shared": counts.shared,
                "failed": sum(process.runner.failures.values()),
            },
            "cache": {"kind": self._cache.kind, "error": counts.cache_error},
            "checks": {
                name: {"ok": one.ok, "latency": one.latency, "error": one.error}
                for name, one in (result.checks if result is not None else {}).items()
            },
        }

    def start(self) -> Self:
        """Check in the background, every `interval` seconds; does nothing if it is started."""
        self._rounds.stopped = False
        self._monitoring = True
        self._process()
        return self

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop, and close the connections of this process; return whether all ended in time.

        The last result can still be read, and `check` opens connections for the time of its round.
        """
        deadline = Deadline.after(timeout)
        self._monitoring = False
        self._rounds.stopped = True
        ended = self._process().stop(deadline)
        self._prober.close(deadline)
        self._cache.close()
        return ended

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _since(self, wanted: float) -> HealthResult:
        """Return the result of a round that began after `wanted`, or the best there is."""
        process = self._process()
        deadline = Deadline.after(self._rounds.limit)
        while process.result is None or process.result.began < wanted:
            outcome = process.runner.wait(process.start_round(wanted), deadline)
            if outcome is None or outcome.reason is not None:
                why = outcome.detail if outcome is not None else "the check has not ended in time"
                return self._without_new(process.result, why)
        return process.result

    def _without_new(self, last: HealthResult | None, why: str) -> HealthResult:
        if last is not None:
            return replace(self._judged(last), error=why)
        report = self._prober.report()
        return HealthResult(report.document, report.checks, error=why)

    def _judged(self, result: HealthResult) -> HealthResult:
        """Return the result; unknown when it is too old to prove anything."""
        if result.age <= self._stale_after:
            return result
        return replace(result, document={**result.document, "status": Status.UNKNOWN.value})

    def _process(self) -> CheckerProcess:
        """Return what belongs to this process; a fork begins with the last result of its parent."""
        found = self._processes.get(os.getpid())
        if found is None:
            before = next(reversed(self._processes.values()), None)
            last = before.result if before is not None else None
            created = CheckerProcess(self._rounds, self.interval, last)
            found = self._processes.setdefault(os.getpid(), created)
        if self._monitoring:
            found.monitor()
        return found


def _seconds(interval: float) -> float:
    number = isinstance(interval, (int, float)) and not isinstance(interval, bool)
    if not (number and math.isfinite(interval) and interval > 0):
        raise ConfigError(
            f"HealthChecker: interval must be a number of seconds above 0, not {interval!r}"
        )
    return float(interval)


def _only_timeout(options: dict[str, Any]) -> dict[str, Any]:
    for name in options:
        if name != "timeout":
            raise ConfigError(f"HealthChecker: {name} has no effect with checks")
    return options
