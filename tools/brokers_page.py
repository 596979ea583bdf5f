"""docs/brokers.md: what can be observed on each kind of broker, and how to connect to it."""

from __future__ import annotations

from celery_vitals.brokers.capabilities import Capabilities, Capability
from celery_vitals.brokers.kinds import KINDS

REDIS_ACL = (
    "+ping +lpushx +info +select +client|setname +scan +smembers +scard +exists +llen "
    "+lindex +hlen +hget +hstrlen +zrange +evalsha +script|load +publish +psubscribe +punsubscribe "
    "+brpop +lrange +del +zadd +zrem +zrangebyscore +zremrangebyscore +expire +multi +exec +set "
    "+get"
)
"""The commands that a user of Redis needs for all metrics."""

_HEAD = """\
# Brokers and result backends

Generated from `celery_vitals/brokers/kinds.py` and `tools/brokers_page.py`; do not edit.

## What can be observed

A series is exposed only where the broker's answer is true and asking for it changes nothing. Other
series are absent, `celery_exporter_blind_spot` is 1 for them, and the exporter's page gives the
reason in the words of these tables. Entries of a broker that is not tested are based on kombu's
source.
"""
_TABLE = """\
| Broker | URL scheme | Up | Writable | Queue lengths | Unacknowledged | Workers | Task events |\
 Tested |
|---|---|---|---|---|---|---|---|---|"""
_ROUTES = """\
| Broker | What | How it is observed, or why not |
|---|---|---|"""
_BACKENDS = (
    (
        "Redis",
        "`redis://`, `rediss://`, `redis+socket://`",
        "a key is set, read and deleted; it expires by itself",
        "yes",
    ),
    ("Redis with Sentinel", "`sentinel://`", "the same on the master", "yes"),
    ("RPC", "`rpc://`", "a round trip to the broker, whose queues store the results", "yes"),
    (
        "PostgreSQL, SQLite",
        "`db+postgresql+psycopg://`, `db+sqlite:///`",
        "SELECT only; no table is created or altered",
        "yes",
    ),
    ("MySQL, MariaDB and others of SQLAlchemy", "`db+...://`", "the same", "no"),
    ("memcached", "`cache+memcached://`", "a key is set, read and deleted", "yes"),
    ("File system", "`file://`", "a file is written, read and deleted", "yes"),
    (
        "Django's",
        "`django-db`, `django-cache`",
        "not probed; the database behind it is, with `--result-backend db+...://`",
        "yes",
    ),
    ("Other key-value stores", "", "a key is set, read and deleted by Celery's own backend", "no"),
    ("Others", "", "a result is stored, read and forgotten by Celery's own backend", "no"),
)
"""Result backends: name, URLs, probe, tested."""
_TAIL = """\
## Redis

- **TLS**: `rediss://`, and `--broker-ssl-option` with `ssl_ca_certs`, `ssl_certfile`,
  `ssl_keyfile`, `ssl_cert_reqs`; or the same names in the query of the URL. With `rediss://` and no
  option kombu does not verify the certificate. Neither does the exporter, since it must work where
  the workers do; the page reports a blind spot until `--broker-ssl-option ssl_cert_reqs=required`
  is set.
- **Users**: name and password in the URL, special characters percent-encoded. A user with access to
  all metrics needs `~*`, `&*` and the commands `{redis_acl}`. The exporter names its connections
  where it is permitted to.
- **Writable**: LPUSHX passes the same checks as LPUSH and does nothing to a key that does not
  exist. Without it INFO decides, except where `min-replicas-to-write` is set and a replica is
  connected. A full memory counts as not writable from 32 KiB (or 10 %) below `maxmemory` on, unless
  the eviction policy finds a key to delete. Without INFO, memory and eviction policy are absent.
- **Sentinel**: `sentinel://HOST:26379/0;sentinel://HOST:26379/0` and `--broker-transport-option
  master_name=NAME`. After a failover the exporter continues with the new master. Options for the
  Sentinels themselves, such as a password, go into the transport option `sentinel_kwargs`.
- **A socket**: `redis+socket:///path/to/redis.sock?virtual_host=0`.
- **A prefix**: `--broker-transport-option global_keyprefix=PREFIX`, as in the application.
- **Priorities and separator**: the priorities 0 to 9 are counted whatever the application's
  `priority_steps`. `sep`, `unacked_key`, `unacked_index_key` and `visibility_timeout` come from
  `--broker-transport-option`, from `--app`, or from the workers, which report them. Without any of
  these, queues whose bindings show another separator or prefix have no length, and
  `celery_exporter_blind_spot` with the subject `queue_length` is 1: set the option so that
  lengths are available while no worker runs.
- **Broadcast tasks**: messages to a fanout exchange are delivered to the workers at once and never
  wait in Redis. The length of a queue of such an exchange is 0, however many of its tasks its
  workers still hold.
- **Keys**: workers push their replies onto a list of the exporter, and the sorted set
  `celery-vitals.mailboxes` names it. Both are gone after a stop. After a kill, or when a worker
  that hung replies after the end of the exporter, the set remains, and expires after 30
  days. A list of late replies remains without expiry until the next exporter deletes it, a minute
  after its last use or later.
- **Redis Cluster** is rejected at the start: kombu has no transport for it.

## RabbitMQ

- **TLS**: `amqps://`, and `--broker-ssl-option` with `ca_certs`, `certfile`, `keyfile`. The name in
  the certificate is compared only with `server_hostname=NAME`; the page reports a blind spot until
  it is set.
- **A certificate instead of a password**: `amqps://HOST//?login_method=EXTERNAL`.
- **Several hosts**: `amqp://u:p@a//;amqp://u:p@b//`. They are tried in turn, the last good one
  first.
- **The management plugin**: at `--rabbitmq-management-url`, else at port 15672 (15671 with TLS) of
  the connected host. The URL may end in `/api/`. Its user needs the tag `management`, and
  `monitoring` for the memory of the nodes. An API whose cluster has another name than the broker's
  is ignored: it belongs to another broker.
- **Writable**: on a connection of its own, the exporter publishes two empty messages to the default
  exchange that no queue receives; RabbitMQ returns them and keeps nothing. During a memory or disk
  alarm it blocks that connection instead. Where the user may not write to the default exchange
  (`amq.default`), the alarms of the nodes decide, which need the tag `monitoring`.
- **Dead letters**: `celery_queue_dead_letter_info` names the queues that receive them, by
  `x-dead-letter-exchange` and `x-dead-letter-routing-key` in arguments and policies, and the
  bindings of that exchange. Those queues are exported though no worker consumes them; this is how
  they grow:

      delta(celery_queue_length[1h]) and on (queue) label_replace(
        celery_queue_dead_letter_info{{dead_letter_queue!=""}},
        "queue", "$1", "dead_letter_queue", "(.*)")

  Without a routing key, the keys are those of the bindings of the queue; where any is possible, all
  queues of the exchange are listed. An empty `dead_letter_queue` is an exchange that is missing or
  routes them nowhere: they are dropped. Exchanges and bindings are read every 5 minutes, and only
  where a queue has a dead letter exchange.
- **Unroutable messages**: `celery_broker_unroutable_messages_total` counts those that RabbitMQ
  dropped (`drop_unroutable` of the virtual host, read every 30 seconds), from the start of the
  exporter on. Celery's events are among them while no program receives them. Those that RabbitMQ
  returned (`mandatory`) are not: their producer knows, and each exporter causes some itself.

## Amazon SQS

`pip install 'celery-vitals[sqs]'`, and `--broker-url sqs://` with the credentials of the
environment, or `sqs://KEY:SECRET@` with those in the URL, percent-encoded; the region by
`--broker-transport-option region=NAME`. The transport options `predefined_queues` and
`queue_name_prefix` have the same meaning as in the application.

Only ListQueues and GetQueueAttributes are called, and with `predefined_queues` GetQueueAttributes
alone: once per queue and scrape, one after the other, which Amazon charges for. Nothing is created,
received or deleted. Queues are those of `predefined_queues`, those that begin with
`queue_name_prefix`, those of the app and of `--queue`. Without a prefix all other queues of the
account are ignored.

## The file system

For development. Every exporter has an event queue of its own; the queue of an exporter that was
killed is removed by the next exporter within two minutes.

## Limits of what is read

Any program with access to the broker can send the exporter messages of any size. It reads up to

- 4 MiB of a worker's reply (1 MiB unless it is JSON or msgpack), and 32 MiB of all replies of a
  round. Others are discarded: `celery_exporter_blind_spot` with the subject `worker_replies` is 1,
  the log has a warning, and a worker whose reply is discarded counts as one that has not replied;
- 8 MiB of an event message; `celery_exporter_events_rejected_total` counts larger ones with the
  reason `too_large`;
- 16 MiB of one answer of Redis, and of the management API: the set of an exchange's bindings that
  is larger is left out, a larger list of queues counts as unavailable.

Compressed messages are not inflated. Workers compress neither replies nor events.

## Queues of one process

Names that change with each process or pod would add series without end, and use up
`--max-queue-names` until real queues count as `_other`. They are folded first:

- **`bcast.UUID`**, the queue of a `Broadcast("news")` in each producer and worker: its exchange
  stands for it, `queue="news"`, on task series and on `celery_queue_workers`. Its length is not
  read. The same applies to `NAME.UUID` of a `Broadcast` with `unique=True`, from when on a worker
  has reported it.
- **`celery@HOST.dq2`**, the direct queue of a worker (`worker_direct`): on task series it counts as
  `queue="C.dq2"`, the exchange of all of them. Its length and its workers have its own name, until
  the worker is forgotten; one that `--queue` names is always read.
- **Celery's own**: events, remote control, replies of the RPC backend, `amq.gen-*` and
  `celery_delayed_N` are not shown. Delayed messages count in `celery_broker_delayed_messages`.

A `Broadcast` with a fixed queue name is a queue like any other. So is one whose name contains a
date, or a UUID of your own, such as one per tenant: the limits apply to it. On RabbitMQ such a
queue, if it is declared with `auto_delete`, is shown only while a worker consumes it.

## Result backends

The probe leaves nothing behind, and is abandoned when its deadline passes.

| Result backend | URL | Probe | Tested |
|---|---|---|---|
{backends}

- **TLS to Redis**: `rediss://HOST/0?ssl_cert_reqs=required&ssl_ca_certs=FILE`, with `ssl_certfile`
  and `ssl_keyfile` if needed. Celery requires `ssl_cert_reqs`, and so does the exporter.
- **Sentinel**: `--result-backend-transport-option master_name=NAME`.
- SQLAlchemy and pymemcache come with `celery-vitals[sqlalchemy]` and `celery-vitals[memcached]`;
  the database driver is the one in the URL. SQLAlchemy 1.4 works, too.
- **PostgreSQL behind a pooler**, such as PgBouncer: the probe limits its statements inside its
  transaction. It sends no startup parameters, which poolers refuse, and changes no setting of the
  session, which other clients use after it.

## The settings of the app

With `--app`, or `celery -A proj vitals`, the app names the broker as it does for workers:
`broker_url` or `broker_read_url`, or `broker_host`, `broker_port`, `broker_user`,
`broker_password`, `broker_vhost` and `broker_transport`, which also fill in what a URL leaves out.
The result backend gets the whole configuration of the app, settings of its own included;
`result_backend = "database"` takes `database_url`. Old names (`BROKER_HOST`,
`CELERY_RESULT_DBURI`) and a namespace, as in Django, are the same settings. A function as
`broker_password` is called once, at the start.
"""


def brokers_markdown() -> str:
    """Return the page in Markdown."""
    table = [kind.capabilities for kind in KINDS]
    rows = "\n".join(map(_row, table))
    routes = "\n".join(line for one in table for line in _routes(one))
    backends = "\n".join(f"| {' | '.join(cells)} |" for cells in _BACKENDS)
    return (
        "\n".join(
            [_HEAD, _TABLE, rows, "", "## How it is observed, and why not", "", _ROUTES, routes, ""]
        )
        + "\n"
        + _TAIL.format(redis_acl=REDIS_ACL, backends=backends)
    )


def _row(one: Capabilities) -> str:
    schemes = ", ".join(f"`{scheme}`" for scheme in one.schemes)
    marks = [_mark(capability) for _, capability in _capabilities(one)]
    return f"| {' | '.join([one.title, schemes, *marks, 'yes' if one.tested else 'no'])} |"


def _mark(capability: Capability) -> str:
    return "yes" if capability else "-"


def _routes(one: Capabilities) -> list[str]:
    """Return one line per reason, with everything that it applies to."""
    texts: dict[str, list[str]] = {}
    for what, capability in _capabilities(one):
        detail = capability.detail if capability else f"not observed: {capability.detail}"
        texts.setdefault(detail, []).append(what)
    return [f"| {one.title} | {', '.join(what)} | {text} |" for text, what in texts.items()]


def _capabilities(one: Capabilities) -> tuple[tuple[str, Capability], ...]:
    return (
        ("up", one.up),
        ("writable", one.writable),
        ("queue lengths", one.length),
        ("unacknowledged", one.unacked),
        ("workers", one.workers),
        ("task events", one.events),
    )
