"""The watched cluster, and every connection to it.  Nobody else in the program connects."""

from celery_vitals.brokers.capabilities import CAPABILITIES, Capabilities, Capability
from celery_vitals.brokers.connection import BrokerClient, BrokerConnection
from celery_vitals.brokers.rabbitmq.management import Management, QueueInfo
from celery_vitals.brokers.session import Session, may_be_stale
from celery_vitals.brokers.target import Target, target_of
from celery_vitals.result_backends import Backend, open_backend

__all__ = [
    "CAPABILITIES",
    "Backend",
    "BrokerClient",
    "BrokerConnection",
    "Capabilities",
    "Capability",
    "Management",
    "QueueInfo",
    "Session",
    "Target",
    "may_be_stale",
    "open_backend",
    "target_of",
]
