"""The watched cluster, and every connection to it.  Nobody else in the program connects."""

from celery_vitals.cluster.backend import Backend, open_backend
from celery_vitals.cluster.broker import BrokerConnection, Cluster
from celery_vitals.cluster.link import Link, may_be_stale
from celery_vitals.cluster.management import Management, QueueInfo
from celery_vitals.cluster.target import Target, target_of
from celery_vitals.cluster.transports import TRANSPORTS, Ability, Transport

__all__ = [
    "TRANSPORTS",
    "Ability",
    "Backend",
    "BrokerConnection",
    "Cluster",
    "Link",
    "Management",
    "QueueInfo",
    "Target",
    "Transport",
    "may_be_stale",
    "open_backend",
    "target_of",
]
