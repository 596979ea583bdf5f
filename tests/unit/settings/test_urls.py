"""Valid and invalid URLs of brokers, result backends and RabbitMQ's management API."""

from __future__ import annotations

import pytest

from celery_vitals.errors import ConfigError
from celery_vitals.settings import Secret, Settings


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://localhost:6379/0",
        "REDIS://localhost",
        "rediss://:p%40ss@host:6380/1?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
        "redis+socket:///run/redis.sock?virtual_host=1",
        "sentinel://:pw@a:26379/0;sentinel://:pw@b:26379/0",
        "sentinel://a:26379;b:26379",
        "amqp://guest:guest@localhost:5672//",
        "amqp://user@host/v@host",
        "amqps://a//;amqps://b//",
        "pyamqp://[::1]:5672//",
        "memory://",
        "filesystem://",
        "sqs://key:secret@",
        "sqla+postgresql://user:pa/ss@host/db",
        "sqlalchemy+sqlite:////tmp/x.db",
        "mongodb://a:1,b:2/db",
        "azureservicebus://policy:ke/y=@namespace",
    ],
)
def test_valid_broker_urls(url: str) -> None:
    assert Settings(broker_url=Secret(url)).broker_url == Secret(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must not be empty"),
        ("localhost", "must begin with a scheme"),
        ("://localhost", "must begin with a scheme"),
        ("kombu.transport:x://h", "must begin with a scheme"),
        (
            "rediz://:s3cret@h",
            "unknown scheme 'rediz', did you mean 'redis'? (expected one of: amqp, amqps,",
        ),
        (
            "rabbitmq://u:s3cret@h",
            "unknown scheme 'rabbitmq', did you mean 'amqp'? (expected one of: ",
        ),
        ("postgresql://u:s3cret@h", "unknown scheme 'postgresql' (expected one of: "),
        ("os.path://:s3cret@h", "unknown scheme 'os.path' (expected one of: "),
        ("redis+tls://:s3cret@h", "unknown scheme 'redis+tls'"),
        ("redis+cluster://:s3cret@h", "Redis Cluster is not supported"),
        ("rediss+cluster://:s3cret@h", "Redis Cluster is not supported"),
        ("rediscluster://:s3cret@h", "Redis Cluster is not supported"),
        ("redis://:s3cret@h:99999", "invalid host or port"),
        ("redis://:s3cret@h:0", "invalid host or port"),
        ("redis://:s3cret@[::1", "invalid host or port"),
        ("redis://:s3#cret@h", "invalid host or port"),
        ("redis://u:3#s3cret@h", "invalid host or port"),
        ("amqp://u:3/s3cret@h", "invalid host or port"),
        ("amqp://u:3?s3cret@h", "invalid host or port"),
        ("redis://:s3cret@h/db", "database must be a number"),
        (
            "rediss://:s3cret@h?ssl_cert_reqs=maybe",
            "ssl_cert_reqs must be one of: required, optional, none",
        ),
        ("redis://:s3 cret@h", "must not contain spaces or control characters"),
        ("redis://h\n", "must not contain spaces or control characters"),
        ("redis://h;rediz://:s3cret@h", "unknown scheme 'rediz'"),
        ("redis://h;h2:port", "invalid host or port"),
    ],
)
def test_invalid_broker_urls(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings(broker_url=url)  # type: ignore[arg-type]
    assert str(raised.value).startswith(f"--broker-url: {message}")
    assert "s3cret" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "rpc",
        "rpc://",
        "disabled",
        "redis://:pw@h:6379/1",
        "sentinel://a:26379;sentinel://b:26379",
        "db+postgresql://u:pa/ss@h/db",
        "cache+memcached://h:11211/",
        "file:///var/results",
        "azureblockblob://DefaultEndpointsProtocol=https;AccountKey=abc==",
    ],
)
def test_valid_result_backends(url: str) -> None:
    assert Settings(result_backend=Secret(url)).result_backend == Secret(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("amqp://u:s3cret@h", "unknown scheme 'amqp' (expected one of: "),
        ("reddis", "must begin with a scheme"),
        (
            "postgres://u:s3cret@h",
            "unknown scheme 'postgres', did you mean 'db+postgresql'? (expected one of: ",
        ),
        ("redis://:s3cret@h/db", "database must be a number"),
        ("rediss+cluster://:s3cret@h", "Redis Cluster is not supported"),
    ],
)
def test_invalid_result_backends(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings(result_backend=Secret(url))
    assert str(raised.value).startswith(f"--result-backend: {message}")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:x", "h:15672"])
def test_invalid_management_urls(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^--rabbitmq-management-url: "):
        Settings(rabbitmq_management_url=Secret(url))
