"""Libraries that only some brokers and result backends need: missed at the start, not at the first scrape."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

from celery_vitals.errors import ConfigError

_EXTRAS = {
    "db": ("sqlalchemy", "celery-vitals[sqlalchemy]"),
    "database": ("sqlalchemy", "celery-vitals[sqlalchemy]"),
    "cache": ("pymemcache", "celery-vitals[memcached]"),
    **{
        scheme: (module, f"celery[{scheme}]")
        for scheme, module in (
            ("arangodb", "pyArango"),
            ("cassandra", "cassandra"),
            ("consul", "consul"),
            ("couchbase", "couchbase"),
            ("couchdb", "pycouchdb"),
            ("dynamodb", "boto3"),
            ("elasticsearch", "elasticsearch"),
            ("mongodb", "pymongo"),
            ("s3", "boto3"),
        )
    },
}
_TRANSPORTS = {"sqs": ("boto3", "celery-vitals[sqs]")}


def hint_for(scheme: str) -> str:
    """What to install for a transport, to be put behind the name of what is missing; empty where no extra has it."""
    _, extra = _TRANSPORTS.get(scheme.lower(), ("", ""))
    return f": pip install '{extra}'" if extra else ""


def check_transport(scheme: str) -> None:
    """Raise ConfigError when a library is missing that kombu would only miss when it connects."""
    module, _ = _TRANSPORTS.get(scheme.lower(), ("", ""))
    if module and importlib.util.find_spec(module) is None:
        raise ConfigError(f"--broker-url: {scheme} needs the package {module}{hint_for(scheme)}")


def check_backend(scheme: str, url: str, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError when a library, or a setting, that this kind of result backend needs is missing."""
    if scheme == "sentinel" and not (settings.get("result_backend_transport_options") or {}).get(
        "master_name"
    ):
        raise ConfigError("--result-backend-transport-option: Sentinel needs master_name=NAME")
    module, extra = _EXTRAS.get(scheme, ("", ""))
    if not module:
        return
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"--result-backend: {scheme} needs the package {module}: pip install '{extra}'"
        )
    if module == "sqlalchemy":
        _check_driver(url.partition("+")[2])


def _check_driver(url: str) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(url).get_dialect().import_dbapi()
    except NoSuchModuleError as error:
        raise ConfigError(
            f"--result-backend: SQLAlchemy does not know this database: {error}"
        ) from error
    except ImportError as error:
        raise ConfigError(f"--result-backend: the database's driver is missing: {error}") from error
    except (ArgumentError, ValueError):
        raise ConfigError("--result-backend: what follows db+ is no URL of SQLAlchemy") from None
