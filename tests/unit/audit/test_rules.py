"""The rules of the audit: each finds its problem, and nothing where there is none."""

from __future__ import annotations

import re

import pytest

from celery_vitals.audit.engine import run
from celery_vitals.audit.evidence import Severity
from celery_vitals.audit.findings import RULES
from tests.support.auditing import RABBITMQ, REDIS, facts_of, found, on_rabbitmq
from tests.unit.audit.cases import CASES, redis, schedule, timeouts, worker


def test_every_rule_has_a_project_with_its_problem_and_one_without() -> None:
    assert sorted(CASES) == sorted(RULES)
    assert len(RULES) >= 30


@pytest.mark.parametrize("code", CASES)
def test_rule_finds_its_problem(code: str) -> None:
    findings = found(CASES[code][0]())
    assert code in findings
    for one in findings[code]:
        assert one.evidence
        assert one.link.startswith("https://")
        assert "\n" not in one.message + one.fix + one.risk
        assert one.risk.endswith(".")
        assert not re.search(r"None s|nan|inf\b", one.message)
        assert "s3cret" not in repr(one)


@pytest.mark.parametrize("code", CASES)
def test_rule_finds_nothing_without_its_problem(code: str) -> None:
    assert code not in found(CASES[code][1]())


def test_no_rule_fails_on_the_project_of_another() -> None:
    for problem, _ in CASES.values():
        report = run(problem())
        assert [one for one in report.not_checked if "unexpected type" in one.reason] == []


class TestSuggestions:
    def test_visibility_timeout_is_computed_from_the_longest_delay(self) -> None:
        tasks = {"shop.pay": {"default_retry_delay": 20000}, "shop.bill": {}}
        (one,) = found(facts_of({}, tasks))["visibility_timeout_below_retry_delay"]
        assert one.fix == "app.conf.broker_transport_options = {'visibility_timeout': 25200}"
        assert "shop.pay: a retry waits up to 20000 s" in one.message

    def test_other_transport_options_are_kept(self) -> None:
        conf = {"broker_transport_options": {"visibility_timeout": 60, "global_keyprefix": "x"}}
        (one,) = found(facts_of(conf, {"a": {}}))["visibility_timeout_below_retry_delay"]
        assert one.fix == (
            "app.conf.broker_transport_options ="
            " {**app.conf.broker_transport_options, 'visibility_timeout': 3600}"
        )

    def test_line_for_django_has_the_namespace(self) -> None:
        source = {"CELERY_BROKER_URL": REDIS, "CELERY_TASK_ALWAYS_EAGER": True}
        (one,) = found(facts_of(source=source, namespace="CELERY"))["always_eager"]
        assert one.fix == "CELERY_TASK_ALWAYS_EAGER = False"
        assert one.evidence[0].source == "app shop.app"

    def test_worker_command_names_the_queue(self) -> None:
        conf = {"task_routes": {"shop.pay": "payments"}}
        facts = facts_of(conf, {"shop.pay": {}}, workers=(worker(),))
        (one,) = found(facts)["route_queue_unconsumed"]
        assert one.fix == "celery -A shop.app worker -Q payments"

    def test_rate_limit_is_divided_by_the_workers(self) -> None:
        has = frozenset({"shop.pay"})
        facts = facts_of(
            {},
            {"shop.pay": {"rate_limit": "10/m"}},
            workers=tuple(worker(f"w{n}@a", tasks=has) for n in range(4)),
        )
        (one,) = found(facts)["rate_limit_per_worker"]
        assert "10/m on each of 4 workers is 40/m in all" in one.message
        assert one.fix == "celery -A shop.app control rate_limit shop.pay 2.5/m"


class TestSeverity:
    @pytest.mark.parametrize(
        ("policy", "limit", "expected"),
        [
            ("allkeys-lru", 100, Severity.ERROR),
            ("volatile-lru", 100, Severity.WARNING),
            ("allkeys-lru", 0, Severity.WARNING),
        ],
    )
    def test_eviction_is_weighed_by_what_it_may_delete(
        self, policy: str, limit: int, expected: Severity
    ) -> None:
        facts = facts_of(server=redis(maxmemory_policy=policy, maxmemory=limit))
        (one,) = found(facts)["redis_evicts"]
        assert one.severity is expected

    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("redis.example.com", Severity.WARNING),
            ("203.0.113.9", Severity.INFO),
            ("8.8.8.8", Severity.WARNING),
            ("redis", Severity.INFO),
            ("10.1.2.3", Severity.INFO),
            ("redis.prod.svc", Severity.INFO),
        ],
    )
    def test_password_without_tls_weighs_less_in_a_private_network(
        self, host: str, expected: Severity
    ) -> None:
        (one,) = found(facts_of(broker=f"redis://:s3cret@{host}/0"))["password_in_clear_text"]
        assert one.severity is expected


class TestSiblings:
    def test_retry_arguments_of_automatic_retries_count(self) -> None:
        auto = {"autoretry_for": (ValueError,), "retry_kwargs": {"countdown": 9000}}
        assert "visibility_timeout_below_retry_delay" in found(facts_of({}, {"a": auto}))
        forever = {"autoretry_for": (ValueError,), "retry_kwargs": {"max_retries": None}}
        assert "retries_forever" in found(facts_of({}, {"a": forever}))

    def test_backoff_counts_by_its_maximum(self) -> None:
        auto = {"autoretry_for": (ValueError,), "retry_backoff": 2, "retry_backoff_max": 9000}
        (one,) = found(facts_of({}, {"a": auto}))["visibility_timeout_below_retry_delay"]
        assert one.evidence[0].name == "a.retry_backoff_max"

    def test_manual_retries_without_a_limit_are_no_finding(self) -> None:
        assert "retries_forever" not in found(facts_of({}, {"a": {"max_retries": None}}))

    def test_a_limit_of_the_settings_counts_for_late_tasks(self) -> None:
        conf = {"task_time_limit": 7200, "task_acks_late": True}
        assert "visibility_timeout_below_time_limit" in found(facts_of(conf, {"a": {}}))

    def test_no_visibility_timeout_on_rabbitmq(self) -> None:
        tasks = {"a": {"acks_late": True, "time_limit": 7200, "default_retry_delay": 7200}}
        facts = facts_of({}, tasks, broker=RABBITMQ, server=on_rabbitmq(version="3.8.9"))
        assert not [code for code in found(facts) if "visibility" in code or "consumer" in code]

    def test_an_entry_is_routed_like_its_task(self) -> None:
        conf = {**schedule(), "task_routes": {"shop.pay": "payments"}}
        facts = facts_of(conf, {"shop.pay": {}}, workers=(worker(),))
        (one,) = found(facts)["beat_queue_unconsumed"]
        assert "sends to payments" in one.message

    def test_routes_may_be_pairs_and_functions(self) -> None:
        conf = {"task_routes": [lambda *_: None, [("shop.*", "payments")], {"x": {"queue": "y"}}]}
        facts = facts_of(conf, {"shop.pay": {}, "x": {}}, workers=(worker(),))
        assert {one.subject for one in found(facts)["route_queue_unconsumed"]} == {"payments", "y"}

    def test_old_names_in_django_settings(self) -> None:
        source = {"CELERY_BROKER_URL": REDIS, "CELERYD_MAX_TASKS_PER_CHILD": 10}
        (one,) = found(facts_of(source=source, namespace="CELERY"))["setting_old_name"]
        assert "CELERYD_MAX_TASKS_PER_CHILD is CELERY_WORKER_MAX_TASKS_PER_CHILD now" in one.message

    def test_misspelled_names_in_django_settings(self) -> None:
        source = {"CELERY_BROKER_URL": REDIS, "CELERY_TASK_TIME_LIMTI": 10}
        (one,) = found(facts_of(source=source, namespace="CELERY"))["setting_misspelled"]
        assert one.fix == "CELERY_TASK_TIME_LIMIT = ..."

    def test_settings_of_unexpected_types_leave_the_other_rules(self) -> None:
        conf = {"beat_schedule": [1], "task_routes": 7, "result_expires": "soon"}
        report = run(facts_of({**conf, **timeouts(60)}, {"a": {}}, backend=REDIS))
        assert "visibility_timeout_below_retry_delay" in {one.code for one in report.findings}
