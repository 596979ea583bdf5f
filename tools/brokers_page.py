"""docs/brokers.md: what can be known of each kind of broker and result backend, and how to reach it."""

from __future__ import annotations

from celery_vitals.brokers import CAPABILITIES, Capabilities, Capability

REDIS_ACL = (
    "+ping +select +client|setname +hello +scan +smembers +scard +exists +llen +lindex +hlen +hget +hstrlen +zrange"
    " +evalsha +script|load +publish +psubscribe +punsubscribe +brpop +lrange +del +zadd +zrem +zrangebyscore"
    " +zremrangebyscore +expire +multi +exec +set +get"
)
"""What a user of Redis must be allowed, to see everything."""

_HEAD = """\
# Brokers and result backends

Generated from `celery_vitals/brokers/capabilities.py` and `tools/brokers_page.py`; do not edit.

## What is known of each broker

A number is shown only where the broker's answer is true and asking for it changes nothing. What is not known is absent,
`celery_exporter_blind_spot` is 1 for it, and the exporter's page says why in the words of these tables. What is said of
a broker that is not tried comes from kombu's source; this program's tests have not run it.
"""
_TABLE = """\
| Broker | Scheme of its URL | Up | Queue lengths | Unacknowledged | Workers | Task events | Tried |
|---|---|---|---|---|---|---|---|"""
_ROUTES = """\
| Broker | What | How it is known, or why not |
|---|---|---|"""
_TAIL = """\
## Redis

- **TLS**: `rediss://`, and `--broker-ssl-option` with `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs`;
  or the same names in the query of the URL. With `rediss://` and no option at all kombu does not verify the
  certificate. Neither does the exporter, since it must work where the workers do; the page says so until
  `--broker-ssl-option ssl_cert_reqs=required` is set.
- **Users**: name and password in the URL, special characters percent-encoded. A user that sees everything needs `~*`,
  `&*` and the commands `{redis_acl}`. The exporter gives its connections a name, and goes without where it may not.
- **Sentinel**: `sentinel://HOST:26379/0;sentinel://HOST:26379/0` and `--broker-transport-option master_name=NAME`.
  After a failover the same process goes on with the new master. Options for the Sentinels themselves, such as a
  password, go into the transport option `sentinel_kwargs`.
- **A socket**: `redis+socket:///path/to/redis.sock?virtual_host=0`.
- **A prefix**: `--broker-transport-option global_keyprefix=PREFIX`, as the application has it.
- **Broadcast tasks**: what is sent to a fanout exchange goes to the workers at once and never waits in Redis. The
  length of a queue of such an exchange is 0, whatever its workers have still to do.
- **Redis Cluster** is refused at the start: kombu has no transport for it.

## RabbitMQ

- **TLS**: `amqps://`, and `--broker-ssl-option` with `ca_certs`, `certfile`, `keyfile`. The name in the certificate is
  compared only with `server_hostname=NAME`, which the page says until it is given.
- **A certificate instead of a password**: `amqps://HOST//?login_method=EXTERNAL`.
- **Several hosts**: `amqp://u:p@a//;amqp://u:p@b//`. They are tried in turn, the last good one first.
- **The management plugin**: at `--rabbitmq-management-url`, else looked for at port 15672, with TLS 15671, of the host
  that has answered. Its user needs the tag `management`. One whose cluster has another name than the broker's is not
  believed: it is that of another broker.

## Amazon SQS

`pip install 'celery-vitals[sqs]'`, and `--broker-url sqs://` with the credentials of the environment, or
`sqs://KEY:SECRET@` with those in the URL, percent-encoded; the region by `--broker-transport-option region=NAME`. The
transport options `predefined_queues` and `queue_name_prefix` mean what they mean to the application.

Only ListQueues and GetQueueAttributes are called, and with `predefined_queues` GetQueueAttributes alone: once for each
queue and scrape, one after the other, which Amazon charges for. Nothing is created, received or deleted. Queues are
those of `predefined_queues`; those that begin with `queue_name_prefix`; those of the app and of `--queue`. Without a
prefix all other queues of the account are left alone.

## The file system

For development. Every exporter has an event queue of its own; what one that was killed has left there is removed by the
next exporter within two minutes.

## Result backends

The probe leaves nothing behind, and whatever hangs in it is given up at the end of its time.

| Result backend | URL | What is done | Tried |
|---|---|---|---|
| Redis | `redis://`, `rediss://`, `redis+socket://` | a key is set, read and deleted; it expires by itself | yes |
| Redis with Sentinel | `sentinel://` | the same on the master | yes |
| RPC | `rpc://` | a round trip to the broker, whose queues hold the results | yes |
| PostgreSQL, SQLite | `db+postgresql+psycopg://`, `db+sqlite:///` | SELECT only; no table is created or altered | yes |
| MySQL, MariaDB and others of SQLAlchemy | `db+...://` | the same | no |
| memcached | `cache+memcached://` | a key is set, read and deleted | yes |
| File system | `file://` | a file is written, read and deleted | yes |
| Django's | `django-db`, `django-cache` | not asked; the database behind it is, by `--result-backend db+...://` | yes |
| Other stores of keys and values | | a key is set, read and deleted by Celery's own backend | no |
| Others | | a result is stored, read and forgotten by Celery's own backend | no |

- **TLS to Redis**: `rediss://HOST/0?ssl_cert_reqs=required&ssl_ca_certs=FILE`, with `ssl_certfile` and `ssl_keyfile`
  where they are needed. Celery wants `ssl_cert_reqs` to be given, and so does the exporter.
- **Sentinel**: `--result-backend-transport-option master_name=NAME`.
- SQLAlchemy and pymemcache come with `celery-vitals[sqlalchemy]` and `celery-vitals[memcached]`; the driver of the
  database is the one that the URL names.
"""


def brokers_markdown() -> str:
    """The whole page, in Markdown."""
    rows = "\n".join(map(_row, CAPABILITIES))
    routes = "\n".join(line for transport in CAPABILITIES for line in _routes(transport))
    return (
        "\n".join(
            [_HEAD, _TABLE, rows, "", "## How it is known, and why not", "", _ROUTES, routes, ""]
        )
        + "\n"
        + _TAIL.format(redis_acl=REDIS_ACL)
    )


def _row(one: Capabilities) -> str:
    schemes = ", ".join(f"`{scheme}`" for scheme in one.schemes)
    known = [_mark(capability) for _, capability in _capabilities(one)]
    return f"| {' | '.join([one.title, schemes, *known, 'yes' if one.tried else 'no'])} |"


def _mark(capability: Capability) -> str:
    return "yes" if capability else "-"


def _routes(one: Capabilities) -> list[str]:
    """One line for each text, with all that it is the reason for."""
    texts: dict[str, list[str]] = {}
    for what, capability in _capabilities(one):
        texts.setdefault(
            capability.text if capability else f"not known: {capability.text}", []
        ).append(what)
    return [f"| {one.title} | {', '.join(what)} | {text} |" for text, what in texts.items()]


def _capabilities(one: Capabilities) -> tuple[tuple[str, Capability], ...]:
    return (
        ("up", one.up),
        ("queue lengths", one.length),
        ("unacknowledged", one.unacked),
        ("workers", one.workers),
        ("task events", one.events),
    )
