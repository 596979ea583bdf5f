"""How far the certificates of broker and result backend are verified.

The exporter verifies what the application verifies with the same settings, no more and no less: it must not fail where
the workers work, nor be surer than they are.  What is not verified is said.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kombu import Connection

from celery_vitals.errors import ConfigError

_OFF = (ssl.CERT_NONE, None, "none", "CERT_NONE")
_NOT_AT_ALL = "is not verified: whoever is on the way can pose as it"
_NOT_ITS_NAME = "is verified, but not its name: with any certificate of a trusted authority others can pose as it"


def with_default(url: str, options: Any) -> Any:
    """TLS options as given, else those that kombu takes, with a warning each time, for rediss:// without any."""
    if options or not url.startswith("rediss://") or "ssl_" in urlsplit(url).query:
        return options
    return {"ssl_cert_reqs": ssl.CERT_NONE}


def broker_doubt(url: str, options: Any, driver: str) -> tuple[str, str] | None:
    """What of the certificate is not verified, and the option that would; None where all is, or there is no TLS."""
    chosen = Connection(url, ssl=with_default(url, options)).ssl
    named = chosen if isinstance(chosen, Mapping) else {}
    if driver == "redis" and named:
        if named.get("ssl_cert_reqs", ssl.CERT_REQUIRED) in _OFF:
            return _NOT_AT_ALL, "ssl_cert_reqs=required"
        return (
            None
            if named.get("ssl_check_hostname", True)
            else (_NOT_ITS_NAME, "ssl_check_hostname=true")
        )
    if driver == "amqp" and (chosen or url.startswith("amqps://")) and "context" not in named:
        if "cert_reqs" in named and named["cert_reqs"] == ssl.CERT_NONE:
            return _NOT_AT_ALL, "ssl_cert_reqs=required"
        return None if "server_hostname" in named else (_NOT_ITS_NAME, "server_hostname=null")
    return None


def backend_doubt(url: str, settings: Mapping[str, Any]) -> str:
    """The same of a result backend on Redis, in words; empty where all is verified, or there is no TLS.

    Raises ConfigError where Celery itself refuses to go on without being told.
    """
    options = settings.get("redis_backend_use_ssl")
    named = options if isinstance(options, Mapping) else {}
    if not url.startswith("rediss://") and not named:
        return ""
    given = parse_qs(urlsplit(url).query).get("ssl_cert_reqs", [named.get("ssl_cert_reqs", "")])[0]
    if given == "":
        raise ConfigError(
            "--result-backend: over TLS Celery wants to be told whether to verify the certificate:"
            " rediss://...?ssl_cert_reqs=required (or optional, or none)"
        )
    return _NOT_AT_ALL if given in _OFF else ""
