"""What can be known of a broker, for every transport of kombu: the one table that the program and its manual go by.

A length counts as known only where the answer is true and asking for it changes nothing; from the others nothing is
shown, never a wrong 0.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capability:
    """Whether something is known."""

    known: bool
    text: str
    """How it is known, or why it is not; a clause that begins in lower case and has no full stop."""

    def __bool__(self) -> bool:
        return self.known


@dataclass(frozen=True)
class Capabilities:
    """One kind of broker."""

    title: str
    schemes: tuple[str, ...]
    """Of its URLs, in lower case."""
    up: Capability
    """Whether it answers."""
    length: Capability
    """Messages that wait in a queue."""
    unacked: Capability
    """Messages that workers hold, by queue."""
    workers: Capability
    """Remote control: who is there, and what they say of themselves."""
    events: Capability
    """The events of tasks and workers."""
    tried: bool = False
    """Whether the tests run it against a real server."""


def _yes(text: str) -> Capability:
    return Capability(known=True, text=text)


def _no(text: str) -> Capability:
    return Capability(known=False, text=text)


_NO_CONTACT = _no("kombu connects to it only when a queue is used, and no queue is used")
_UNTRIED = _no("not tried against a real server")
_CREATES = _no("kombu creates the queue that it counts")
_OWN_ONLY = _no("kombu's answer is 0 for every queue that it does not use itself")
_NO_FANOUT = _no("its transport in kombu has no broadcast")
_COSTS = _no("a broadcast would create topics and subscriptions in the account")
_LEAVES = _no("what an exporter that is killed had created would stay in the broker")


def _silent(
    title: str,
    *schemes: str,
    up: Capability = _UNTRIED,
    length: Capability = _UNTRIED,
    broadcast: Capability = _NO_FANOUT,
) -> Capabilities:
    """One of which nothing is known."""
    return Capabilities(title, schemes, up, length, _UNTRIED, broadcast, broadcast)


CAPABILITIES = (
    Capabilities(
        "Redis",
        ("redis", "rediss"),
        up=_yes("PING"),
        length=_yes("LLEN of all priority steps"),
        unacked=_yes("a script that reads the ends of up to 2000 messages; the total from HLEN"),
        workers=_yes("PUBLISH, replies in a list"),
        events=_yes("PSUBSCRIBE"),
        tried=True,
    ),
    Capabilities(
        "Redis with Sentinel",
        ("sentinel",),
        up=_yes("PING to the master"),
        length=_yes("as on Redis, from the master"),
        unacked=_yes("as on Redis, from the master"),
        workers=_yes("as on Redis, by the master"),
        events=_yes("as on Redis, by the master"),
        tried=True,
    ),
    Capabilities(
        "RabbitMQ",
        ("amqp", "amqps", "pyamqp", "librabbitmq"),
        up=_yes("a passive declare of an exchange"),
        length=_yes("a passive declare"),
        unacked=_yes("the management plugin"),
        workers=_yes("a publish, replies in an exclusive queue"),
        events=_yes("an exclusive queue, or a named one"),
        tried=True,
    ),
    Capabilities(
        "Amazon SQS",
        ("sqs",),
        up=_yes("ListQueues for one name, or GetQueueAttributes of a predefined queue"),
        length=_yes(
            "GetQueueAttributes, delayed messages apart; SQS itself calls its numbers approximate"
        ),
        unacked=_yes("GetQueueAttributes: messages not visible"),
        workers=_no("a broadcast would create topics and queues in the account"),
        events=_no("a broadcast would create topics and queues in the account"),
        tried=True,
    ),
    Capabilities(
        "File system",
        ("filesystem",),
        up=_yes("reading the folder"),
        length=_yes("counting the files"),
        unacked=_no("a message that is received is a file no longer"),
        workers=_yes("kombu's own consumer"),
        events=_yes("kombu's own consumer"),
        tried=True,
    ),
    Capabilities(
        "Memory",
        ("memory",),
        up=_yes("it is this process: for an exporter inside the application only"),
        length=_yes("counting"),
        unacked=_no("a message that is received is nowhere but in the worker"),
        workers=_yes("kombu's own consumer"),
        events=_yes("kombu's own consumer"),
        tried=True,
    ),
    Capabilities(
        "MongoDB",
        ("mongodb",),
        up=_yes("the command ping"),
        length=_UNTRIED,
        unacked=_no("a message that is received is deleted"),
        workers=_yes("kombu's own consumer"),
        events=_yes("kombu's own consumer"),
    ),
    _silent(
        "SQLAlchemy",
        "sqla",
        "sqlalchemy",
        up=_NO_CONTACT,
        length=_no("kombu creates the tables that it reads"),
    ),
    _silent("PostgreSQL (pgmq)", "pgmq", broadcast=_LEAVES),
    _silent("Google Pub/Sub", "gcpubsub", up=_NO_CONTACT, length=_OWN_ONLY, broadcast=_COSTS),
    _silent(
        "Azure Service Bus",
        "azureservicebus",
        up=_NO_CONTACT,
        length=_no("kombu counts dead letters as well"),
    ),
    _silent("Azure Storage Queues", "azurestoragequeues", length=_CREATES),
    _silent("Kafka", "confluentkafka", "kafka", length=_OWN_ONLY),
    _silent("Apache Qpid", "qpid", broadcast=_UNTRIED),
    _silent("ZooKeeper", "zookeeper", up=_NO_CONTACT, length=_CREATES),
    _silent(
        "Consul", "consul", up=_NO_CONTACT, length=_no("kombu waits for a change when it counts")
    ),
    _silent("etcd", "etcd", up=_NO_CONTACT, length=_no("kombu locks the queue while it counts")),
    _silent("Pyro", "pyro", up=_NO_CONTACT),
    _silent("SoftLayer Message Queue", "slmq", length=_CREATES),
)
_OTHER = _silent("Another transport", broadcast=_UNTRIED)
_BY_SCHEME = {scheme: transport for transport in CAPABILITIES for scheme in transport.schemes}


def capabilities_of(scheme: str) -> Capabilities:
    """What can be known where the broker's URL has this scheme; of a transport that is not kombu's own, nothing."""
    return _BY_SCHEME.get(scheme.lower(), _OTHER)
