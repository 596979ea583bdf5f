"""Each kind of broker answers for itself; the rest of the program does not ask which one it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.transport import TRANSPORT_ALIASES

import celery_vitals
from celery_vitals import Secret, Settings
from celery_vitals.brokers.generic.kind import PLUG_IN
from celery_vitals.brokers.kinds import KINDS, capabilities_of, kind_of
from celery_vitals.brokers.target import target_of

PACKAGE = Path(celery_vitals.__file__).parent


def test_every_transport_of_kombu_has_one_kind() -> None:
    schemes = [scheme for kind in KINDS for scheme in kind.capabilities.schemes]
    assert len(schemes) == len(set(schemes))
    assert set(schemes) >= {name.lower() for name in TRANSPORT_ALIASES}


def test_a_plug_in_belongs_to_its_family_of_transports_and_nothing_is_observed() -> None:
    assert kind_of("mine", "redis") is kind_of("redis")
    assert kind_of("mine", "amqp") is kind_of("amqp")
    assert kind_of("mine", "other").capabilities is PLUG_IN
    assert capabilities_of("mine") is PLUG_IN
    assert not PLUG_IN.up


@pytest.mark.parametrize(
    ("url", "transport", "scheme"),
    [
        ("redis://h/0", "redis", "redis"),
        ("rediss://h/0", "redis", "redis"),
        ("amqps://h", "amqp", "amqp"),
        ("pyamqp://h", "amqp", "amqp"),
        ("SQS://", "sqs", "sqs"),
        ("memory://", "memory", "memory"),
        ("sqla+sqlite://", "sqla", "sqla"),
    ],
)
def test_aliases_are_reported_under_one_name(url: str, transport: str, scheme: str) -> None:
    target = target_of(Settings(broker_url=Secret(url)))
    assert target.transport == transport
    assert target.kind is kind_of(scheme)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.capabilities.title))
def test_only_kinds_that_may_redeliver_have_a_visibility_timeout(kind: Any) -> None:
    redelivers = kind.driver_type == "redis"
    assert kind.visibility_timeout({}, 3600.0) == (3600.0 if redelivers else None)


def modules_outside(*rooms: str) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(rooms):
            yield name, ast.parse(path.read_text())


def test_no_decision_by_kind_outside_the_brokers() -> None:
    # The demo starts brokers of its own.
    deciding = {
        name: node.lineno
        for name, tree in modules_outside("brokers/", "demo/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("driver", "driver_type")
    }
    assert deciding == {}


def test_sqs_is_named_only_in_its_own_folder_and_the_registry() -> None:
    # A HELP line names it, and `third_party` what it uses of kombu's transport.
    named = {
        name
        for name, tree in modules_outside(
            "brokers/sqs/", "brokers/kinds.py", "third_party/kombu_sqs.py", "metrics/"
        )
        if "sqs" in ast.dump(tree).lower()
    }
    assert named == set()
