"""The kinds of broker.  A new one is a file or folder of this package, and an entry of `KINDS`."""

from __future__ import annotations

from typing import Any

from celery_vitals.brokers.base import BrokerKind
from celery_vitals.brokers.capabilities import Capabilities
from celery_vitals.brokers.filesystem import FilesystemKind
from celery_vitals.brokers.generic.kind import (
    PLUG_IN,
    UNOBSERVABLE,
    GenericKind,
    MemoryKind,
    MongoDBKind,
)
from celery_vitals.brokers.rabbitmq.kind import RabbitMQKind
from celery_vitals.brokers.redis.kind import RedisKind
from celery_vitals.brokers.redis.sentinel import SentinelKind
from celery_vitals.brokers.sqs.kind import SqsKind

KINDS: tuple[BrokerKind[Any], ...] = (
    RedisKind(),
    SentinelKind(),
    RabbitMQKind(),
    SqsKind(),
    FilesystemKind(),
    MemoryKind(),
    MongoDBKind(),
    *UNOBSERVABLE,
)
_BY_SCHEME = {scheme: kind for kind in KINDS for scheme in kind.capabilities.schemes}
# Reversed: of several kinds with one driver type, the first in the table applies.
_BY_DRIVER_TYPE = {kind.driver_type: kind for kind in reversed(KINDS) if kind.driver_type}
_PLUG_IN = GenericKind(PLUG_IN)


def kind_of(scheme: str, driver_type: str = "") -> BrokerKind[Any]:
    """Return the kind of a URL's scheme; of a plug-in's, the kind of its family of transports."""
    return _BY_SCHEME.get(scheme.lower()) or _BY_DRIVER_TYPE.get(driver_type) or _PLUG_IN


def capabilities_of(scheme: str) -> Capabilities:
    """Return the capabilities of a URL's scheme; a plug-in has none."""
    kind = _BY_SCHEME.get(scheme.lower())
    return kind.capabilities if kind is not None else PLUG_IN
