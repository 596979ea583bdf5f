"""The status page."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from typing import cast

import pytest
import urllib3

from celery_vitals.brokers.writability import RefusalReason, Writability
from celery_vitals.errors import Reason
from celery_vitals.health.limits import HealthLimits
from celery_vitals.health.monitor import HealthMonitor
from celery_vitals.health.verdict import Verdict
from celery_vitals.settings import Settings
from celery_vitals.status import ClusterStatus, QueueStatus, WorkerStatus
from celery_vitals.web.pages import Page
from celery_vitals.web.threads import NoThread
from celery_vitals.workers.state import State
from tests.support.web_fakes import FakeCollector, cluster_status, collector_run, healthy_status
from tests.unit.web.conftest import Start

NOW = 1_800_000_000.0
VOID = {"meta", "br", "link"}


class Checker(HTMLParser):
    """Collects the text, and checks that every element is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.parts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())


def render(status: ClusterStatus) -> str:
    return Page(Settings()).render(status, verdict(status), NOW)


def verdict(status: ClusterStatus) -> Verdict:
    return HealthMonitor(HealthLimits()).verdict(status, NOW)


def text(status: ClusterStatus) -> str:
    return Checker(render(status)).text


def test_page_without_any_result() -> None:
    found = text(
        cluster_status(collectors=(collector_run("broker", None), collector_run("backend", None)))
    )
    assert "No data yet: reload this page" in found
    assert "not run yet" in found
    assert "succeeded" not in found


def test_page_of_a_healthy_cluster() -> None:
    found = text(healthy_status(NOW))
    for words in (  # split() has made ordinary spaces of the thin ones in numbers
        "Broker: up",
        "Result backend: up",
        "2 workers up",
        "1 worker down",
        "1 244 messages waiting in 2 of 4 queues",
        "redis://broker.example:6379/0",
        "Collected 7 s ago .",
        "celery@mail-7f9c ✓ up prefork 8 mail, celery 48 213",
        "celery@old ✗ down",
        f"celery@reports-1 ✓ {State.BUSY.description}",
        "25 min ago",
        "unknown-length unknown 1 unknown",
    ):
        assert words in found, words


def test_verdict_comes_first_with_what_to_do() -> None:
    found = text(healthy_status(NOW))
    status = found.partition("Status ✗ Unhealthy")[2]
    assert status.startswith(
        " ✗ Unhealthy: 40 messages wait in the queue reports, which has no consumers."
        ' celery -A "$APP" worker -Q reports queue_unserved, since just now . Runbook'
    ), status[:300]
    assert "! Degraded: 1204 messages wait in the queue mail" in status


def test_verdict_without_findings() -> None:
    assert "Status ? Unknown" in text(cluster_status(collectors=(collector_run("broker", at=NOW),)))


def test_number_of_findings_is_limited() -> None:
    queues = tuple(QueueStatus(f"q{number}", 5, 0, 0) for number in range(70))
    found = text(replace(healthy_status(NOW), queues=queues, workers=()))
    assert found.count("queue_unserved") == 50
    assert "20 more not shown; see health ." in found or "21 more not shown" in found


def test_blind_spots_and_their_settings() -> None:
    found = text(healthy_status(NOW))
    assert (
        "Unacknowledged messages. AMQP does not provide them. Setting: --rabbitmq-management-url"
        in found
    )


def test_queue_without_consumers_is_highlighted() -> None:
    page = render(healthy_status(NOW))
    assert "1 queue has messages but no consumers" in Checker(page).text
    rows = re.findall(r'<tr class="alarm">\s*<th scope="row"><span class="name">(.*?)</span>', page)
    assert rows == ["reports"]
    assert page.index(">reports<") < page.index(">celery<"), "listed first"


def test_empty_queues() -> None:
    found = text(
        cluster_status(
            queues=(QueueStatus("q", 0, 1, 1), QueueStatus("r", None, 1, 1)),
            collectors=(collector_run("queues", at=NOW),),
        )
    )
    assert "1 queue empty" in found


@pytest.mark.parametrize(
    ("queue", "alarm"),
    [
        (QueueStatus("q", 5, 0, 0), True),
        (QueueStatus("q", 5, 0, None), True),
        (QueueStatus("q", 5, None, 0), True),
        (QueueStatus("q", 5, 0, 0, is_celery=False), False),
        (QueueStatus("q", 5, None, None), False),
        (QueueStatus("q", 5, 0, 2), False),
        (QueueStatus("q", 5, 1, 0), False),
        (QueueStatus("q", 0, 0, 0), False),
        (QueueStatus("q", None, 0, 0), False),
    ],
)
def test_unknown_consumers_are_not_highlighted(queue: QueueStatus, alarm: bool) -> None:
    assert ('class="alarm"' in render(cluster_status(queues=(queue,)))) is alarm


def test_queue_of_another_program_is_shown_as_such() -> None:
    queue = QueueStatus("invoices", 5, 0, 0, is_celery=False)
    found = text(cluster_status(queues=(queue,)))
    assert "no consumers; may belong to another program" in found
    assert "messages but no consumers" not in found


def test_worker_states_are_described() -> None:
    states = [state for state in State if state is not State.UP]
    up = {State.BUSY, State.NOT_CONSUMING, State.STALLED}
    workers = tuple(
        WorkerStatus(f"{one.value}@h", one in up, one, "prefork", 1, ("q",), 0, NOW)
        for one in states
    )
    page = render(cluster_status(workers=workers, collectors=(collector_run("workers", at=NOW),)))
    found = Checker(page).text
    for words in (
        "3 workers up",
        "1 worker up but not consuming",
        "1 worker up but stalled",
        "1 worker shutting down",
        "1 worker down",
        f"busy@h ✓ {State.BUSY.description}",
        f"not_consuming@h ✗ {State.NOT_CONSUMING.description}",
        f"stalled@h ✗ {State.STALLED.description}",
        f"draining@h • {State.DRAINING.description}",
        f"gone@h ✗ {State.GONE.description}",
    ):
        assert words in found, words
    alarms = re.findall(
        r'<tr class="alarm">\s*<th scope="row"><span class="name">(.*?)</span>', page
    )
    assert alarms == ["not_consuming@h", "stalled@h"]


def test_failures_are_described() -> None:
    refused = collector_run("broker", False, "connection refused", NOW)
    slow = collector_run("backend", False, "timeout", NOW, seconds=1.5)
    found = text(cluster_status(collectors=(refused, slow, collector_run("workers", at=NOW))))
    assert "Broker: down, connection refused ✗" in found
    assert "Result backend: down, timeout ?" in found
    assert "backend ✗ failed: timeout 1.50 s" in found
    assert "Workers: none observed" in found


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_description(reason: Reason) -> None:
    broker = collector_run("broker", False, reason.description, NOW)
    found = text(cluster_status(collectors=(broker,)))
    assert re.search(r"Broker: down, [^.:]+[^.:? ] \?", found)


def test_disabled_collectors_and_no_backend() -> None:
    found = text(cluster_status(backend="", collectors=(collector_run("queues", at=NOW),)))
    for words in (
        "Broker: not checked",
        "Workers: not checked",
        "Queues: none observed",
    ):
        assert words in found
    assert "Result backend: not configured" in found


def test_only_the_tasks_collector_is_enabled() -> None:
    found = text(replace(cluster_status(), workers=healthy_status(NOW).workers))
    assert "2 workers up" in found
    assert "Queues: not checked" in found
    assert "All collectors that poll the cluster are disabled." in found
    assert "No data yet" not in found


def test_names_are_escaped() -> None:
    evil = "<script>alert(1)</script>\"'&"
    status = replace(
        healthy_status(NOW),
        queues=(QueueStatus(evil, 3, 0, 0),),
        workers=(WorkerStatus(evil, True, State.UP, evil, 1, (evil,), 1, NOW),),
    )
    page = render(status)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 6  # two rows, a finding and its recommendation
    assert evil in Checker(page).text


def test_lone_surrogate_in_a_name_is_a_question_mark(start: Start) -> None:
    collector = FakeCollector()
    name = "lone \ud800"
    collector.state = replace(
        healthy_status(NOW),
        queues=(QueueStatus(name, 3, 0, 0),),
        workers=(WorkerStatus(name, True, State.UP, name, 1, (name,), 1, NOW),),
    )
    answer = start(collector).get("/")
    assert answer.status == 200
    assert answer.data.count(b">lone ?<") == 4


def test_long_tables_are_truncated() -> None:
    queues = tuple(QueueStatus(f"q{number:04}", 0, 1, 1) for number in range(1700))
    workers = tuple(
        WorkerStatus(f"w{number:04}", True, State.UP, "solo", 1, (), 0, NOW)
        for number in range(501)
    )
    page = render(replace(healthy_status(NOW), queues=queues, workers=workers))
    found = Checker(page).text
    assert "1 200 more not shown" in found
    assert "1 more not shown" in found
    assert "q0499" in page
    assert "q0500" not in page


def test_queues_are_sorted_by_need() -> None:
    queues = (
        QueueStatus("a-empty", 0, 1, 1),
        QueueStatus("b-abandoned", 0, 0, 0),
        QueueStatus("c-short", 3, 1, 1),
        QueueStatus("d-unknown", None, 1, 1),
        QueueStatus("e-unserved", 2, 0, 0),
        QueueStatus("f-longest", 90, 1, 1),
        QueueStatus("g-unserved", 40, 0, 0),
    )
    page = render(replace(healthy_status(NOW), queues=queues, workers=()))
    found = re.findall(r'<th scope="row"><span class="name">(\w-\w+)', page)
    assert [name[0] for name in found] == list("gefcdba")


def test_truncated_table_keeps_the_longest_queues() -> None:
    queues = [QueueStatus(f"q{number:04}", 0, 1, 1) for number in range(600)]
    page = render(replace(healthy_status(NOW), queues=(*queues, QueueStatus("zz", 7, 1, 1))))
    assert ">zz<" in page
    assert "101 more not shown" in Checker(page).text


def test_jump_links_lead_to_the_sections_with_their_numbers() -> None:
    queues = tuple(QueueStatus(f"q{number}", 0, 1, 1) for number in range(300))
    page = Checker(render(replace(healthy_status(NOW), queues=queues)))
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    jumps = [
        (attributes["href"] or "")[1:]
        for tag, attributes in page.tags
        if tag == "a" and (attributes["href"] or "").startswith("#")
    ]
    names = ["status", "workers", "queues", "lost", "blind-spots", "connections", "collectors"]
    assert jumps == names
    assert set(jumps) <= targets
    assert (
        "Status Workers 3 Queues 300 Lost and repeated Blind spots 2 Connections Collectors"
        in page.text
    )


def test_page_loads_no_external_resources(start: Start) -> None:
    collector = FakeCollector()
    collector.state = healthy_status(time.time())
    answer = start(collector).get("/")
    page = Checker(answer.data.decode())
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    jumps = {link for link in links if link and link.startswith("#")}
    runbooks = {link for link in links if link and "/docs/runbooks/" in link}
    assert set(links) - jumps - runbooks == {"./metrics", "./health", "./stats", "./lost"}
    assert not any(
        "src" in attributes or tag in {"link", "script", "img"} for tag, attributes in page.tags
    )
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "style-src 'sha256-" in answer.headers["Content-Security-Policy"]


def test_page_runs_the_collectors_whose_results_are_older_than_15_seconds(start: Start) -> None:
    server = start()
    server.collector.state = healthy_status(NOW)
    assert server.get("/").status == 200
    assert server.collector.refreshed == [15.0]
    assert b"Reloading this page shows newer results after 15 s." in server.get("/").data
    assert server.get("/", "HEAD").status == 200
    assert server.collector.refreshed == [15.0] * 3


@pytest.mark.parametrize(("min_interval", "age"), [(0, 15.0), (20, 20.0)])
def test_page_follows_a_longer_min_interval(start: Start, min_interval: float, age: float) -> None:
    server = start(min_interval=min_interval)
    server.collector.state = healthy_status(NOW)
    assert f"after {age:.0f} s." in server.get("/").data.decode()
    assert server.collector.refreshed == [age]


def test_many_tabs_share_one_run_and_leave_the_scrapes_alone(start: Start) -> None:
    server = start(web_max_requests=1)
    server.collector.go_refresh.clear()
    with ThreadPoolExecutor(12) as tabs:
        pages = [tabs.submit(server.get, "/") for _ in range(12)]
        assert server.collector.started.acquire(timeout=5)
        assert server.get("/-/healthy").status == 200
        assert server.get("/metrics").status == 200
        assert server.collector.refreshed == [15.0]
        assert not any(page.done() for page in pages)
        server.collector.go_refresh.set()
        assert [page.result().status for page in pages] == [200] * 12
    assert len(server.collector.refreshed) <= 2  # one more for tabs that came after its end


def test_tab_that_is_closed_does_not_stop_the_run_of_the_others(start: Start) -> None:
    server = start()
    server.collector.go_refresh.clear()
    with pytest.raises(urllib3.exceptions.HTTPError, match="timed out"):
        server.get("/", timeout=0.3)
    with ThreadPoolExecutor(1) as tabs:
        page = tabs.submit(server.get, "/")
        time.sleep(0.2)
        server.collector.go_refresh.set()
        assert page.result().status == 200
    assert server.collector.refreshed == [15.0]


def test_page_is_rendered_when_the_server_stops_or_has_no_thread(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()

    async def refused(*_: object) -> None:
        raise NoThread

    with monkeypatch.context() as patch:
        patch.setattr("celery_vitals.web.scrapes.in_thread", refused)
        assert server.get("/").status == 200
    server.collector.go_refresh.clear()
    with ThreadPoolExecutor(1) as tabs:
        page = tabs.submit(server.get, "/")
        assert server.collector.started.acquire(timeout=5)
        server.server.stop()
        assert page.result().status == 200


def test_page_that_cannot_be_rendered_is_one_line(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    collector = FakeCollector()
    collector.state = cast(ClusterStatus, object())
    answer = start(collector).get("/")
    assert (answer.status, answer.data.count(b"\n")) == (500, 1)
    assert "cannot render the status page: AttributeError" in caplog.text


def test_page_names_why_the_broker_accepts_no_messages() -> None:
    state = Writability(
        writable=False,
        reason=RefusalReason.MEMORY,
        memory_used=98,
        memory_limit=100,
        eviction_policy="noeviction",
    )
    found = text(cluster_status(collectors=(collector_run("broker", at=NOW),), broker_state=state))
    assert "Broker: up" in found
    assert "✗ Broker: accepts no messages, its memory limit is reached" in found
    assert "Broker: 98% of its memory limit in use" in found
    assert "evict" not in found


def test_page_warns_of_a_broker_that_may_evict_queues() -> None:
    state = Writability(
        writable=True, memory_used=5, memory_limit=100, eviction_policy="allkeys-lru"
    )
    found = text(cluster_status(collectors=(collector_run("broker", at=NOW),), broker_state=state))
    assert "Broker: may evict queues at its memory limit (allkeys-lru)" in found
    assert "accepts no messages" not in found
