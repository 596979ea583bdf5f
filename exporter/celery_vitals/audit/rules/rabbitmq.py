"""RabbitMQ as a broker: what its management API and its greeting show."""

from __future__ import annotations

from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts, names
from celery_vitals.audit.findings import Problem, rule
from celery_vitals.audit.rules.delays import version
from celery_vitals.brokers.server_facts import DeclaredQueue
from celery_vitals.queue_names import is_internal

_QUEUES_PAGE = "https://www.rabbitmq.com/docs/queues"
_REJECTS_TRANSIENT = (4, 3)
_EXCLUSIVE_SINCE = (5, 7)
_COMPARED = ("x-queue-type", "x-max-priority", "x-message-ttl", "x-max-length", "x-expires",
             "x-dead-letter-exchange", "x-dead-letter-routing-key")  # fmt: skip


def _queues(facts: Facts) -> Iterator[DeclaredQueue]:
    """Iterate over the queues that belong to the project."""
    consumed = facts.consumed or frozenset()
    ours = {*facts.declared_queues, *facts.routes.values(), *consumed}
    for queue in (facts.server.queues or {}).values():
        if queue.name in ours and not is_internal(queue.name):
            yield queue


@rule(
    "rabbitmq_queue_not_durable",
    Severity.WARNING,
    Source.MANAGEMENT,
    risk="A restart of RabbitMQ deletes the queue with all its tasks.",
    link=f"{_QUEUES_PAGE}#durability",
)
def rabbitmq_queue_not_durable(facts: Facts) -> Iterator[Problem]:
    """A queue of tasks is not durable."""
    for queue in _queues(facts):
        if not queue.durable:
            yield Problem(
                queue.name,
                f"{queue.name} is not durable",
                f"Queue({queue.name!r}, durable=True)  # delete the existing queue first",
                (Evidence("durable", "false", f"queue {queue.name}"),),
            )


@rule(
    "rabbitmq_queue_drops_tasks",
    Severity.WARNING,
    Source.MANAGEMENT,
    risk="RabbitMQ drops tasks from the queue without a trace when they exceed the limit.",
    link="https://www.rabbitmq.com/docs/maxlength",
)
def rabbitmq_queue_drops_tasks(facts: Facts) -> Iterator[Problem]:
    """A queue has a limit of length or age, and no dead letter exchange."""
    for queue in _queues(facts):
        if queue.argument("dead-letter-exchange") is not None:
            continue
        limits = {
            name: queue.argument(name) for name in ("max-length", "max-length-bytes", "message-ttl")
        }
        found = {name: value for name, value in limits.items() if value is not None}
        if "message-ttl" not in found and str(queue.argument("overflow")).startswith("reject"):
            continue
        if found:
            yield Problem(
                queue.name,
                f"{queue.name}: "
                + ", ".join(f"{name} {value}" for name, value in found.items())
                + ", no dead letter exchange",
                f"rabbitmqctl set_policy dead-letters '^{queue.name}$'"
                ' \'{"dead-letter-exchange": "dead-letters"}\' --apply-to queues',
                tuple(
                    Evidence(name, str(value), f"queue {queue.name}")
                    for name, value in found.items()
                ),
            )


@rule(
    "rabbitmq_queue_expires",
    Severity.WARNING,
    Source.MANAGEMENT,
    risk="RabbitMQ deletes the queue with its tasks when no worker has consumed it for this time.",
    link="https://www.rabbitmq.com/docs/ttl#queue-ttl",
)
def rabbitmq_queue_expires(facts: Facts) -> Iterator[Problem]:
    """A queue of tasks is deleted when it is not used."""
    for queue in _queues(facts):
        expires = queue.argument("expires")
        if expires is not None:
            yield Problem(
                queue.name,
                f"{queue.name} is deleted after {expires} ms without a consumer",
                f"Queue({queue.name!r})  # without x-expires; delete the existing queue first",
                (Evidence("x-expires", str(expires), f"queue {queue.name}"),),
            )


@rule(
    "rabbitmq_queue_declared_differently",
    Severity.ERROR,
    Source.MANAGEMENT,
    Source.SETTINGS,
    risk="RabbitMQ refuses the declaration with PRECONDITION_FAILED, and the worker cannot consume"
    " the queue.",
    link=f"{_QUEUES_PAGE}#property-equivalence",
)
def rabbitmq_queue_declared_differently(facts: Facts) -> Iterator[Problem]:
    """A queue exists with other arguments than those that the app declares."""
    for queue in _queues(facts):
        if queue.name not in facts.declared_queues:
            continue
        ours = facts.declared_queues[queue.name]
        for name in _COMPARED:
            mine, theirs = ours.get(name), queue.arguments.get(name)
            if name == "x-queue-type":
                mine, theirs = mine or "classic", queue.kind
            if mine != theirs:
                yield Problem(
                    queue.name,
                    f"{queue.name} exists with {name} = {theirs}, the app declares {mine}",
                    f"rabbitmqctl delete_queue {queue.name} --if-empty",
                    (
                        Evidence(name, str(theirs), "RabbitMQ"),
                        Evidence(name, str(mine), "the app"),
                    ),
                )


@rule(
    "rabbitmq_mirrored_queue",
    Severity.WARNING,
    Source.MANAGEMENT,
    risk="RabbitMQ 4 has no mirrored queues: after the upgrade the queue lives on one node only.",
    link="https://www.rabbitmq.com/docs/3.13/ha",
)
def rabbitmq_mirrored_queue(facts: Facts) -> Iterator[Problem]:
    """A queue is mirrored by a policy."""
    found = [one for one in _queues(facts) if "ha-mode" in one.policy]
    if found:
        yield Problem(
            found[0].name,
            f"{names(one.name for one in found)}: mirrored by a policy",
            facts.line("task_default_queue_type", "quorum"),
            (Evidence("ha-mode", str(found[0].policy["ha-mode"]), f"queue {found[0].name}"),),
        )


@rule(
    "rabbitmq_queue_abandoned",
    Severity.WARNING,
    Source.MANAGEMENT,
    risk="The tasks in it are never executed, and the messages use memory and disk.",
    link="https://docs.celeryq.dev/en/stable/userguide/monitoring.html#rabbitmq",
)
def rabbitmq_queue_abandoned(facts: Facts) -> Iterator[Problem]:
    """A queue has messages and no consumer."""
    for queue in (facts.server.queues or {}).values():
        if queue.messages and queue.consumers == 0 and not is_internal(queue.name):
            yield Problem(
                queue.name,
                f"{queue.name}: {queue.messages} messages, no consumer",
                f"celery -A {facts.app} worker -Q {queue.name}",
                (
                    Evidence("messages", str(queue.messages), f"queue {queue.name}"),
                    Evidence("consumers", "0", f"queue {queue.name}"),
                ),
            )


@rule(
    "rabbitmq_refuses_transient_queues",
    Severity.ERROR,
    Source.RABBITMQ,
    Source.VERSIONS,
    risk="RabbitMQ 4.3 refuses the queues that Celery before 5.7 declares for remote control and"
    " events, and the worker does not start.",
    link="https://github.com/celery/celery/issues/9759",
)
def rabbitmq_refuses_transient_queues(facts: Facts) -> Iterator[Problem]:
    """Workers declare queues that this RabbitMQ refuses."""
    if version(facts.server.version) < _REJECTS_TRANSIENT:
        return
    versions = {one.name: one.celery for one in facts.workers if one.celery}
    if facts.own_celery:
        versions[f"app {facts.app}"] = facts.own_celery
    for name, found in versions.items():
        if version(found) < _EXCLUSIVE_SINCE:
            yield Problem(
                name,
                f"{name}: Celery {found} on RabbitMQ {facts.server.version}",
                "pip install -U 'celery>=5.7'",
                (
                    Evidence("celery", found, name),
                    Evidence("version", facts.server.version, "RabbitMQ"),
                ),
            )
            return
