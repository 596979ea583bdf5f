"""The health document for people and for Nagios."""

from __future__ import annotations

from celery_vitals.health.nagios import nagios_line
from celery_vitals.health.text import lines
from tests.support.health_documents import document, finding, queue, worker


def test_verdict_comes_first_and_then_each_finding_with_what_to_do() -> None:
    text = list(lines(document("unhealthy", findings=[finding()])))
    assert text[:6] == [
        "unhealthy: 1 finding",
        "",
        "unhealthy  queue_unserved  312 messages wait in queue reports, which has no consumers.",
        "  celery -A proj worker -Q reports",
        "  https://example.org/CeleryQueueUnserved.md",
        "  since 2026-01-02T03:00:00Z",
    ]


def test_areas_are_aligned() -> None:
    assert list(lines(document()))[2:] == [
        "broker   healthy         redis://broker:6379/0",
        "backend  not configured",
        "workers  healthy         1 of 2 up (minimum 1)",
        "queues   healthy         2 queues, 312 messages waiting",
        "tasks    unknown",
        "events   unknown",
    ]


def test_alignment_does_not_depend_on_the_style() -> None:
    marked = list(lines(document(), style=lambda text, status: f"<{text}>"))
    assert [line.replace("<", "").replace(">", "").rstrip() for line in marked] == list(
        lines(document())
    )


def test_age_of_old_results_is_shown() -> None:
    assert next(iter(lines(document(age_seconds=41.3)))) == "healthy: 0 findings, 41 s ago"


def test_verbose_has_tables_and_what_is_unknown() -> None:
    spots = [{"subject": "task_events", "reason": "Not received.", "setting": "--collector.tasks"}]
    text = "\n".join(lines(document(unknown=spots), verbose=True))
    assert "WORKER  STATE  POOL     SLOTS  QUEUES" in text
    assert "a@one   up     prefork  4      celery,reports" in text
    assert "b@two   gone   -        4      celery,reports" in text
    assert "reports  312     1000   1        -" in text
    assert "celery   -       1000   1        -" in text
    assert "unknown  task_events  Not received. (--collector.tasks)" in text


def test_number_of_omitted_rows_is_shown() -> None:
    shown = document(queues={"count": 1001, "list": [queue("a", 1)], "omitted": 1000})
    assert "1000 more" in list(lines(shown, verbose=True))


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    evil = document(
        "degraded",
        findings=[finding(message="queue \x1b[2Jx\r\n"), finding(recommendation="a\x07")],
        workers={
            "count": 1, "up": 1, "minimum": 1, "names": [],
            "list": [worker("\x1b]0;x\x07@h")], "omitted": 0,
        },
    )  # fmt: skip
    shown = [*lines(evil, verbose=True), nagios_line(evil)]
    assert all(line.isprintable() for line in shown)


def test_unknown_counts_are_not_shown() -> None:
    nothing: dict[str, object] = {
        "count": None,
        "up": None,
        "minimum": 1,
        "names": [],
        "list": [],
        "omitted": 0,
    }
    shown = list(lines(document(workers=nothing, queues=nothing)))
    assert "workers  healthy" in shown
    assert "queues   healthy" in shown


def test_nagios_line_has_the_findings_and_the_known_values() -> None:
    line = nagios_line(document("unhealthy", findings=[finding()]))
    assert line == (
        "CELERY CRITICAL - 312 messages wait in queue reports, which has no consumers."
        " | workers_up=1;;1:;0 'queue_reports'=312;1000;;0"
    )


def test_nagios_line_is_valid_whatever_the_names_are() -> None:
    odd = document(
        findings=[finding(message="a|b")],
        queues={"count": 1, "list": [queue("it's=a|b c", 1, limit=None)], "omitted": 0},
    )
    assert nagios_line(odd) == (
        "CELERY OK - a/b | workers_up=1;;1:;0 'queue_it_s_a_b c'=1;;;0"
    )  # fmt: skip


def test_nagios_line_without_any_value_has_no_performance_data() -> None:
    nothing = document(
        "unknown",
        workers={"count": None, "up": None, "minimum": 1, "names": [], "list": [], "omitted": 0},
        queues={"count": 0, "list": [], "omitted": 0},
    )
    assert nagios_line(nothing) == "CELERY UNKNOWN - unknown"
