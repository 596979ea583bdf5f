"""Real servers, workers and faults for the tests.

Everything runs on 127.0.0.1 and leaves nothing behind.
"""

from __future__ import annotations

from .alertmanager_server import AlertmanagerServer
from .base import Broker, BrokerServer, Server
from .celery_children import Beat, CeleryChild, Worker, project_environment
from .certificates import Certificates
from .finding import HOST, MissingProgramError, free_port
from .memcached_server import MemcachedServer
from .pgbouncer_server import PgBouncerServer
from .postgres_server import PostgresServer
from .prometheus_server import PrometheusServer, promtool
from .proxy import Fault, Proxy
from .publishing import Publisher, publish, queues_conf
from .rabbitmq_server import RabbitMQServer
from .redis_server import RedisServer
from .sentinels import Sentinels
from .sqs_server import SqsServer
from .waiting import wait_for

__all__ = [
    "HOST",
    "AlertmanagerServer",
    "Beat",
    "Broker",
    "BrokerServer",
    "CeleryChild",
    "Certificates",
    "Fault",
    "MemcachedServer",
    "MissingProgramError",
    "PgBouncerServer",
    "PostgresServer",
    "PrometheusServer",
    "Proxy",
    "Publisher",
    "RabbitMQServer",
    "RedisServer",
    "Sentinels",
    "Server",
    "SqsServer",
    "Worker",
    "free_port",
    "project_environment",
    "promtool",
    "publish",
    "queues_conf",
    "wait_for",
]
