"""Security: serializers, passwords and certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from celery_vitals.audit.evidence import Evidence, Severity, Source
from celery_vitals.audit.facts import Facts
from celery_vitals.audit.findings import Problem, rule
from celery_vitals.third_party.kombu_internals import serializer_name

_SECURITY_PAGE = "https://docs.celeryq.dev/en/stable/userguide/security.html"
_PRIVATE_SUFFIXES = (".local", ".internal", ".svc", ".lan", ".localdomain", ".localhost")
_NETWORKED = ("redis", "sentinel", "amqp")


def _serializers(value: object) -> set[str]:
    items = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
    return {serializer_name(str(one)) for one in items if one}


@rule(
    "pickle_accepted",
    Severity.WARNING,
    Source.SETTINGS,
    risk="A client that can write to the broker or the result backend can run any code in workers"
    " and clients.",
    link=f"{_SECURITY_PAGE}#serializers",
)
def pickle_accepted(facts: Facts) -> Iterator[Problem]:
    """Messages in pickle are accepted."""
    for conf in facts.configurations:
        for name in ("accept_content", "result_accept_content"):
            accepted = _serializers(conf.get(name))
            if "pickle" in accepted:
                others = sorted(accepted - {"pickle"}) or ["json"]
                yield Problem(
                    name,
                    f"{name} contains pickle",
                    conf.line(name, others),
                    conf.evidence(name),
                )


@rule(
    "own_serializer_not_accepted",
    Severity.ERROR,
    Source.SETTINGS,
    risk="Workers reject every task, or clients every result, of this project as of a content type"
    " that is not accepted.",
    link="accept_content",
)
def own_serializer_not_accepted(facts: Facts) -> Iterator[Problem]:
    """The serializer of tasks or results is not among those that are accepted."""
    for conf in facts.configurations:
        accepted = _serializers(conf.get("accept_content"))
        of_results = _serializers(conf.get("result_accept_content")) or accepted
        for name, allowed in (("task_serializer", accepted), ("result_serializer", of_results)):
            used = _serializers(conf.get(name))
            if used and allowed and not used <= allowed:
                yield Problem(
                    name,
                    f"{name} is {conf.get(name)}, accepted are {', '.join(sorted(allowed))}",
                    conf.line("accept_content", sorted(allowed | used)),
                    conf.evidence(name, "accept_content"),
                )


def _is_local(host: str) -> bool:
    """Return whether a host is this machine, or is reached by a socket file."""
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    """Return whether a host is in a private network, as far as its name shows."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_private
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_SUFFIXES)


@rule(
    "password_in_clear_text",
    Severity.WARNING,
    Source.BROKER,
    risk="Every system on the way can read the password and all tasks with their arguments.",
    link="broker_use_ssl",
)
def password_in_clear_text(facts: Facts) -> Iterator[Problem]:
    """The password of the broker is sent without TLS to another machine."""
    broker = facts.broker
    if broker is None or broker.tls or not broker.has_password or broker.kind not in _NETWORKED:
        return
    if not _is_local(broker.host):
        secure = {"amqp": "amqps", "redis": "rediss"}.get(broker.kind)
        fix = (
            facts.line("broker_url", f"{secure}://USER:PASSWORD@{broker.host}")
            if secure
            else facts.options_line("broker_use_ssl", {"ssl_cert_reqs": "required"})
        )
        yield Problem(
            "broker_url",
            f"{broker.address}: a password without TLS",
            fix,
            (Evidence("broker_url", broker.address, _source(facts)),),
            Severity.INFO if _is_private(broker.host) else None,
        )


@rule(
    "broker_without_password",
    Severity.WARNING,
    Source.BROKER,
    risk="Every process that reaches the broker can read all tasks, delete them and send its own.",
    link=f"{_SECURITY_PAGE}#broker",
)
def broker_without_password(facts: Facts) -> Iterator[Problem]:
    """The broker on another machine has no password."""
    broker = facts.broker
    if broker is None or broker.kind not in ("redis", "sentinel") or broker.has_password:
        return
    if not _is_local(broker.host):
        yield Problem(
            "broker_url",
            f"{broker.address}: no password",
            facts.line("broker_url", f"redis://:PASSWORD@{broker.host}"),
            (Evidence("broker_url", broker.address, _source(facts)),),
            Severity.INFO if _is_private(broker.host) else None,
        )


@rule(
    "rabbitmq_default_user",
    Severity.WARNING,
    Source.BROKER,
    risk="The password of the user guest is public; RabbitMQ accepts it from its own"
    " machine only, unless that is switched off.",
    link="https://www.rabbitmq.com/docs/access-control#default-state",
)
def rabbitmq_default_user(facts: Facts) -> Iterator[Problem]:
    """The user of RabbitMQ on another machine is guest."""
    broker = facts.broker
    if broker is not None and broker.default_user and not _is_local(broker.host):
        yield Problem(
            "broker_url",
            f"{broker.address}: the user guest with its default password",
            "rabbitmqctl add_user celery && rabbitmqctl set_permissions celery '.*' '.*' '.*'",
            (Evidence("broker_url", broker.address, _source(facts)),),
            Severity.INFO if _is_private(broker.host) else None,
        )


@rule(
    "broker_certificate_unverified",
    Severity.WARNING,
    Source.BROKER,
    risk="Any system on the way can pose as the broker, and read and change all tasks.",
    link="broker_use_ssl",
)
def broker_certificate_unverified(facts: Facts) -> Iterator[Problem]:
    """The certificate of the broker is not verified."""
    broker = facts.broker
    if broker is not None and broker.unverified:
        name, _, value = broker.verify_option.partition("=")
        option = {name.removeprefix("ssl_") if broker.kind == "amqp" else name: value}
        yield Problem(
            "broker_use_ssl",
            f"the certificate {broker.unverified}",
            facts.options_line("broker_use_ssl", option),
            (Evidence("broker_url", broker.address, _source(facts)),),
        )


@rule(
    "backend_certificate_unverified",
    Severity.WARNING,
    Source.SETTINGS,
    risk="Any system on the way can pose as the result backend, and read and change all results.",
    link="redis_backend_use_ssl",
)
def backend_certificate_unverified(facts: Facts) -> Iterator[Problem]:
    """The certificate of the result backend is not verified."""
    if facts.backend_unverified:
        yield Problem(
            "redis_backend_use_ssl",
            f"the certificate of {facts.backend_address} is not verified",
            facts.options_line("redis_backend_use_ssl", {"ssl_cert_reqs": "required"}),
            (Evidence("result_backend", facts.backend_address, _source(facts)),),
        )


def _source(facts: Facts) -> str:
    return facts.conf.source if facts.conf else "--broker-url"
