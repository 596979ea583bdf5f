"""The rounds of a checker: the result of another process, or probes of its own."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass, replace
from typing import Protocol

from celery_vitals._version import __version__
from celery_vitals.deadline import Deadline
from celery_vitals.integrations.caches import Cache, CacheError
from celery_vitals.integrations.results import HealthResult, Report, decode, with_beginnings
from celery_vitals.secrets import redact_urls

log = logging.getLogger(__name__)

_POLL = 0.05
"""Seconds between two looks for the result of another process."""
_SPARE = 2.0
"""Seconds that a round may take in addition to its probes, for the cache."""
_CLOSE_SECONDS = 1.0


class Prober(Protocol):
    """What a checker probes."""

    timeout: float
    """Seconds of a round."""
    identity: str
    """The same in every process that probes the same, by the same settings."""

    def probe(self) -> Report:
        """Probe, and return what was found."""

    def report(self) -> Report:
        """Return what the last round found.  Never uses the network."""

    def close(self, deadline: Deadline) -> None:
        """Close the connections of this process, as far as `deadline` allows."""


@dataclass
class Counts:
    """What the rounds of one process have done."""

    probed: int = 0
    """Rounds of its own."""
    shared: int = 0
    """Results of other processes."""
    cache_error: str | None = None
    """Why the cache does not work."""


class Rounds:
    """Runs one round at a time of all processes that share the cache.

    Without the cache each process runs its own.
    """

    def __init__(self, prober: Prober, cache: Cache, lifetime: float) -> None:
        """`lifetime`: seconds for which a result is kept."""
        self.limit = 2 * (prober.timeout + _SPARE)
        """Seconds: another process may end while it has the round."""
        self.stopped = False
        """Whether the connections are closed after each round."""
        self._prober = prober
        self._cache = cache
        self._key = cache_key(prober.identity)
        self._claim_seconds = prober.timeout + _SPARE
        self._lifetime = lifetime

    def run(self, wanted: float, counts: Counts) -> HealthResult:
        """Return the result of a round that began after `wanted`, on the monotonic clock."""
        try:
            found, token = self._join(wanted)
            error = None
        except Exception as failure:  # noqa: BLE001 - an application may give a cache of its own
            found, token, error = None, "", _text(failure)
        if found is not None and found.began >= wanted:
            counts.shared += 1
            result = found
        else:
            result = self._probe(found)
            counts.probed += 1
            error = error or self._store(result, token)
        if self.stopped:
            self._prober.close(Deadline.after(_CLOSE_SECONDS))
            self._cache.close()
        _record(counts, error)
        return replace(result, error=error and f"the cache does not work: {error}")

    def _join(self, wanted: float) -> tuple[HealthResult | None, str]:
        """Return the result in the cache, and a claim for the next round unless it is new enough.

        Waits for the result of a round that another process runs, and for its claim to end.
        """
        until, token = Deadline.after(self._claim_seconds), ""
        while True:
            found = self._read()
            if found is not None and found.began >= wanted:
                if token:
                    self._cache.release(self._key, token)
                return found, ""
            if token or until.passed:
                return found, token
            token = self._cache.claim(self._key, self._claim_seconds)
            if not token:
                time.sleep(_POLL)

    def _read(self) -> HealthResult | None:
        asked = time.monotonic()
        kept = self._cache.read(self._key)
        if kept is None:
            return None
        try:
            report, seconds = decode(kept[0])
        except ValueError as error:
            raise CacheError(f"the key {self._key} has an invalid value ({error})") from None
        return HealthResult(report.document, report.checks, asked - kept[1] - seconds, shared=True)

    def _probe(self, before: HealthResult | None) -> HealthResult:
        began = time.monotonic()
        report = with_beginnings(self._prober.probe(), before.document if before else None)
        return HealthResult(report.document, report.checks, began)

    def _store(self, result: HealthResult, token: str) -> str | None:
        """Store a result and end the claim; return why the cache does not work."""
        try:
            text = Report(result.document, result.checks).encode(result.age)
            self._cache.write(self._key, text, self._lifetime)
            if token:
                self._cache.release(self._key, token)
        except Exception as error:  # noqa: BLE001 - as in `run`
            return _text(error)
        return None


def _text(error: Exception) -> str:
    known = isinstance(error, CacheError)
    return str(error) if known else redact_urls(f"{type(error).__name__}: {error}")


def _record(counts: Counts, error: str | None) -> None:
    """Keep why the cache does not work, and log when that begins and ends."""
    if error is not None and counts.cache_error is None:
        log.warning("the cache of HealthChecker does not work, this process probes: %s", error)
    elif error is None and counts.cache_error is not None:
        log.info("the cache of HealthChecker works again")
    counts.cache_error = error


def cache_key(identity: str) -> str:
    """Return the key of what is probed: the same in all processes of an application.

    Another version may have another document.
    """
    digest = hashlib.sha256(f"{__version__} {identity}".encode()).hexdigest()
    return f"celery-vitals:health:{{{digest[:16]}}}"
