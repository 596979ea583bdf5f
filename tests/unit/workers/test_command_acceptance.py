"""Commands that no worker answers are not repeated, until there is evidence of another kind."""

from __future__ import annotations

import pytest

from celery_vitals.workers import command_acceptance
from celery_vitals.workers.command_acceptance import CommandAcceptance
from celery_vitals.workers.registry import WorkerRegistry

BOTH = ("active_queues", "stats")


@pytest.fixture
def registry() -> WorkerRegistry:
    return WorkerRegistry(120.0, 3600.0)


@pytest.fixture
def acceptance(registry: WorkerRegistry) -> CommandAcceptance:
    return CommandAcceptance(registry)


def heartbeat(registry: WorkerRegistry, name: str, online: bool = False) -> None:
    registry.heartbeat(name, "5.7", 0, 0, 1, online)


def test_unanswered_commands_are_not_repeated(
    registry: WorkerRegistry, acceptance: CommandAcceptance
) -> None:
    assert acceptance.may_send()
    acceptance.record(BOTH, (), received=True)
    assert (acceptance.unanswered, acceptance.may_send()) == (True, False)
    heartbeat(registry, "old@h")  # a worker that has been there before
    assert not acceptance.may_send()
    acceptance.record((), (), received=True)
    assert not acceptance.may_send()


def test_commands_that_no_mailbox_received_are_repeated(acceptance: CommandAcceptance) -> None:
    acceptance.record(BOTH, (), received=False)
    assert (acceptance.unanswered, acceptance.may_send()) == (False, True)


def test_a_late_answer_proves_that_commands_are_accepted(
    registry: WorkerRegistry, acceptance: CommandAcceptance
) -> None:
    acceptance.record(BOTH, (), received=True)
    assert not registry.answers_commands
    acceptance.record((), BOTH, received=True)
    assert (acceptance.unanswered, acceptance.may_send()) == (False, True)
    assert registry.answers_commands
    # From then on silence has another cause.
    acceptance.record(("stats",), (), received=True)
    assert (acceptance.unanswered, acceptance.may_send()) == (False, True)


def test_commands_are_repeated_when_all_workers_have_started_since(
    registry: WorkerRegistry, acceptance: CommandAcceptance
) -> None:
    heartbeat(registry, "old@h", online=True)
    acceptance.record(BOTH, (), received=True)
    heartbeat(registry, "new@h", online=True)
    assert not acceptance.may_send()
    registry.offline("old@h")
    assert acceptance.may_send()
    acceptance.record(BOTH, (), received=True)
    assert not acceptance.may_send()


def test_where_no_worker_gives_a_sign_of_life_commands_are_repeated_rarely(
    acceptance: CommandAcceptance, monkeypatch: pytest.MonkeyPatch
) -> None:
    acceptance.record(BOTH, (), received=True)
    assert not acceptance.may_send()
    monkeypatch.setattr(command_acceptance, "_RETRY_UNSEEN", 0.0)
    assert acceptance.may_send()


def test_workers_that_answer_all_but_stats_get_ping_instead(acceptance: CommandAcceptance) -> None:
    acceptance.record(BOTH, ("active_queues",), received=True)
    assert acceptance.refuses_stats
    acceptance.record(("ping",), ("ping",), received=True)
    assert acceptance.refuses_stats
    acceptance.record(("ping",), ("stats",), received=True)  # a late answer
    assert not acceptance.refuses_stats
    acceptance.record(BOTH, ("active_queues",), received=True)
    assert not acceptance.refuses_stats


def test_workers_that_reply_in_yaml_never_get_stats(registry: WorkerRegistry) -> None:
    acceptance = CommandAcceptance(registry, "yaml")
    assert acceptance.refuses_stats
    acceptance.record(("ping", "active_queues"), ("ping", "active_queues"), received=True)
    assert acceptance.refuses_stats
