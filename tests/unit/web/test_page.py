"""The page at `/`."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from typing import cast

import pytest

from celery_vitals.errors import Reason
from celery_vitals.settings import Settings
from celery_vitals.status import ClusterStatus, QueueStatus, WorkerStatus
from celery_vitals.web.pages import Page
from celery_vitals.workers import State
from tests.support.web_fakes import FakeCollector, cluster_status, healthy_report, make_probe
from tests.unit.web.conftest import Start

NOW = 1_800_000_000.0
VOID = {"meta", "br", "link"}


class Checker(HTMLParser):
    """Collects the text, and insists that every element is closed in order."""

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


def render(report: ClusterStatus) -> str:
    return Page(Settings()).render(report, NOW)


def text(report: ClusterStatus) -> str:
    return Checker(render(report)).text


def test_before_the_first_round() -> None:
    found = text(cluster_status(probes=(make_probe("broker", None), make_probe("backend", None))))
    assert "Nothing has been looked at yet." in found
    assert "has not run" in found
    assert "works" not in found


def test_what_is_seen() -> None:
    found = text(healthy_report(NOW))
    for words in (  # split() has made ordinary spaces of the thin ones in numbers
        "The broker works.",
        "The result backend works.",
        "2 workers are up.",
        "1 worker is down.",
        "1 244 messages wait in 2 of 4 queues.",
        "redis://broker.example:6379/0",
        "As of the last round, 7 s ago",
        "celery@mail-7f9c ✓ up prefork 8 mail, celery 48 213",
        "celery@old ✗ down",
        "celery@reports-1 ✓ busy: no slot is free",
        "25 min ago",
        "unknown-length not known 1 not known",
    ):
        assert words in found, words


def test_what_is_not_seen_and_how_to_see_it() -> None:
    found = text(healthy_report(NOW))
    assert (
        "Unacknowledged messages. AMQP does not tell them. Setting: --rabbitmq-management-url"
        in found
    )


def test_a_queue_that_nobody_serves_stands_out() -> None:
    page = render(healthy_report(NOW))
    assert "1 queue has messages, and nobody serves it." in Checker(page).text
    rows = re.findall(r'<tr class="alarm">\s*<th scope="row"><span class="name">(.*?)</span>', page)
    assert rows == ["reports"]
    assert page.index(">reports<") < page.index(">celery<"), "it comes first"


def test_empty_queues() -> None:
    found = text(
        cluster_status(
            queues=(QueueStatus("q", 0, 1, 1), QueueStatus("r", None, 1, 1)),
            probes=(make_probe("queues", at=NOW),),
        )
    )
    assert "1 queue is empty." in found


@pytest.mark.parametrize(
    ("queue", "alarm"),
    [
        (QueueStatus("q", 5, 0, 0), True),
        (QueueStatus("q", 5, 0, None), True),
        (QueueStatus("q", 5, None, 0), True),
        (QueueStatus("q", 5, None, None), False),
        (QueueStatus("q", 5, 0, 2), False),
        (QueueStatus("q", 5, 1, 0), False),
        (QueueStatus("q", 0, 0, 0), False),
        (QueueStatus("q", None, 0, 0), False),
    ],
)
def test_unknown_is_no_alarm(queue: QueueStatus, alarm: bool) -> None:
    assert ('class="alarm"' in render(cluster_status(queues=(queue,)))) is alarm


def test_the_state_of_each_worker_is_said_in_words() -> None:
    states = [state for state in State if state is not State.UP]
    up = {State.BUSY, State.NOT_CONSUMING, State.STALLED}
    workers = tuple(
        WorkerStatus(f"{one.value}@h", one in up, one, "prefork", 1, ("q",), 0, NOW)
        for one in states
    )
    page = render(cluster_status(workers=workers, probes=(make_probe("workers", at=NOW),)))
    found = Checker(page).text
    for words in (
        "3 workers are up.",
        "1 of them takes no tasks.",
        "1 of them is stalled.",
        "1 worker is shutting down.",
        "1 worker is down.",
        "busy@h ✓ busy: no slot is free",
        "not_consuming@h ✗ up, but takes no tasks",
        "stalled@h ✗ stalled: tasks wait, slots are free, and it begins none",
        "draining@h • shuts down, and still ends its tasks",
        "gone@h ✗ down",
    ):
        assert words in found, words
    alarms = re.findall(
        r'<tr class="alarm">\s*<th scope="row"><span class="name">(.*?)</span>', page
    )
    assert alarms == ["not_consuming@h", "stalled@h"]


def test_failures_are_said_in_words() -> None:
    refused = make_probe("broker", False, "nothing listens on this address and port", NOW)
    slow = make_probe("backend", False, "no answer in time", NOW, seconds=1.5)
    found = text(cluster_status(probes=(refused, slow, make_probe("workers", at=NOW))))
    assert "The broker does not work: nothing listens on this address and port." in found
    assert "The result backend does not work: no answer in time." in found
    assert "backend ✗ fails: no answer in time 1.50 s" in found
    assert "No worker has been seen." in found


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_makes_a_sentence(reason: Reason) -> None:
    found = text(cluster_status(probes=(make_probe("broker", False, reason.words, NOW),)))
    assert re.search(r"The broker does not work: [^.:]+[^.:?]\. ", found)


def test_collectors_that_are_off_and_no_backend() -> None:
    found = text(cluster_status(backend="", probes=(make_probe("queues", at=NOW),)))
    for words in (
        "The broker is not checked.",
        "No worker is looked for.",
        "No queue has been seen.",
    ):
        assert words in found
    assert "Result backend: none is known." in found


def test_only_the_task_events_are_followed() -> None:
    found = text(replace(cluster_status(), workers=healthy_report(NOW).workers))
    assert "2 workers are up." in found
    assert "No queue is looked for." in found
    assert "Every probe is off." in found
    assert "Nothing has been looked at yet." not in found


def test_names_are_untrusted() -> None:
    evil = "<script>alert(1)</script>\"'&"
    report = replace(
        healthy_report(NOW),
        queues=(QueueStatus(evil, 3, 0, 0),),
        workers=(WorkerStatus(evil, True, State.UP, evil, 1, (evil,), 1, NOW),),
    )
    page = render(report)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4
    assert evil in Checker(page).text


def test_long_tables_are_cut() -> None:
    queues = tuple(QueueStatus(f"q{number:04}", 0, 1, 1) for number in range(1700))
    workers = tuple(
        WorkerStatus(f"w{number:04}", True, State.UP, "solo", 1, (), 0, NOW)
        for number in range(501)
    )
    page = render(replace(healthy_report(NOW), queues=queues, workers=workers))
    found = Checker(page).text
    assert "1 200 more are left out here" in found
    assert "1 more are left out here" in found
    assert "q0499" in page
    assert "q0500" not in page


def test_nothing_is_loaded_from_elsewhere(start: Start) -> None:
    collector = FakeCollector()
    collector.state = healthy_report(time.time())
    answer = start(collector).get("/")
    page = Checker(answer.data.decode())
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert set(links) == {"./metrics", "./-/healthy", "./-/ready"}
    assert not any(
        "src" in attributes or tag in {"link", "script", "img"} for tag, attributes in page.tags
    )
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "style-src 'sha256-" in answer.headers["Content-Security-Policy"]


def test_a_page_that_cannot_be_built_is_one_line(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    collector = FakeCollector()
    collector.state = cast(ClusterStatus, object())
    answer = start(collector).get("/")
    assert (answer.status, answer.data.count(b"\n")) == (500, 1)
    assert "the page could not be built: AttributeError" in caplog.text
