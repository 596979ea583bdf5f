"""The broker's addresses and TLS options, as kombu wants them; what it would only find wrong later is found here."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import redis
from amqp.transport import SSLTransport
from kombu import Connection

from celery_vitals.brokers.sqs.client import check_sqs
from celery_vitals.errors import ConfigError

_CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def scheme_of(url: str) -> str:
    """`redis` of `redis://...`, `cache` of `cache+memcached://...`, `rpc` of `rpc`."""
    return url.partition("://")[0].partition("+")[0] if "://" in url else url.partition(":")[0]


def split_addresses(given: Any) -> tuple[str, ...]:
    """The alternates of a URL, or of a list of URLs; Sentinels stay together, since they are asked together."""
    urls = [url.strip() for url in (given.split(";") if isinstance(given, str) else given)]
    urls = [url for url in urls if url]
    if scheme_of(urls[0]) == "sentinel":
        return (";".join(urls),)
    return tuple(_completed(url, urls[0]) for url in urls)


def _completed(url: str, first: str) -> str:
    """An alternate that is a host and port only has all else from the first."""
    if "://" in url:
        return url
    parts = urlsplit(first)
    credentials, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{credentials}{at}{url}"))


def tls_options(options: Mapping[str, Any], driver: str) -> dict[str, Any]:
    """Options of `broker_use_ssl` as the library for this broker names them.

    Names may be given with or without `ssl_`; `cert_reqs` may be a word.  Raises ConfigError for what is unknown.
    """
    if driver == "redis":
        known = _parameters(redis.SSLConnection.__init__, "ssl_")
        named = {
            name if name.startswith("ssl_") else f"ssl_{name}": value
            for name, value in options.items()
        }
    elif driver == "amqp":
        known = _parameters(SSLTransport._wrap_socket_sni, "")
        named = {name.removeprefix("ssl_"): value for name, value in options.items()}
    else:
        return dict(options)
    for name, value in named.items():
        if name not in known:
            raise ConfigError(
                f"--broker-ssl-option: there is no {name}; there are {', '.join(sorted(known))}"
            )
        if name.endswith("cert_reqs"):
            named[name] = _cert_reqs(value)
    return named


def _parameters(function: Any, prefix: str) -> set[str]:
    names = set(inspect.signature(function).parameters)
    return {
        name for name in names if name.startswith(prefix) and name not in ("self", "sock", "kwargs")
    }


def _cert_reqs(value: Any) -> Any:
    if isinstance(value, ssl.VerifyMode):
        return value
    word = str(value).lower().removeprefix("cert_")
    if word not in _CERT_REQS:
        raise ConfigError(
            f"--broker-ssl-option: cert_reqs must be one of {', '.join(_CERT_REQS)}, not {word!r}"
        )
    return _CERT_REQS[word]


def check_addresses(urls: Sequence[str], options: Mapping[str, Any], tls: Any) -> None:
    """Raise ConfigError for an address or options that kombu cannot make a connection of.  Connects to nothing."""
    for url in urls:
        if scheme_of(url).lower() == "sqs":
            check_sqs(options)
        if scheme_of(url) == "sentinel" and not options.get("master_name"):
            raise ConfigError("--broker-transport-option: Sentinel needs master_name=NAME")
        try:
            Connection(url, ssl=tls, transport_options=dict(options))
        except Exception as error:  # noqa: BLE001 - whatever kombu's parsing of a URL raises
            raise ConfigError(
                f"--broker-url: kombu does not take it: {type(error).__name__}: {error}"
            ) from None
