"""URLs of brokers and result backends, by their parts."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit


def scheme_of(url: str) -> str:
    """Return `redis` of `redis://...`, `cache` of `cache+memcached://...`, `rpc` of `rpc`."""
    return url.partition("://")[0].partition("+")[0] if "://" in url else url.partition(":")[0]


def completed(urls: Sequence[str]) -> tuple[str, ...]:
    """Return all as URLs: an alternate without scheme has all but its host from the first."""
    return tuple(url if "://" in url else _with_host(urls[0], url) for url in urls)


def _with_host(url: str, host: str) -> str:
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{host}"))
