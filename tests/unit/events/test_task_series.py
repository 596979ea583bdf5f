"""Names and rows: capped, found again, expired."""

from __future__ import annotations

import pytest
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.events.decode import Event
from celery_vitals.events.task_labels import KwargLabel
from tests.support.scene import WORKER, Scene

TENANT = KwargLabel("tenant", "customer")
HOUR = 3600.0


def of(kwargs: str | None) -> str:
    return TENANT.of(Event("task-sent", "h", kwargs=kwargs))


@pytest.mark.parametrize(
    ("kwargs", "value"),
    [
        ("{'customer': 'acme'}", "acme"),
        ("{'a': 1, 'customer': 'acme', 'b': 2}", "acme"),
        ("{'customer': \"o'neil\"}", "o'neil"),
        ("{'customer': 42}", "42"),
        ("{'customer': -42, 'b': 1}", "-42"),
        ("{'customer': 1.5}", "1.5"),
        ("{'customer': ''}", ""),
        ("{'customer': None}", ""),
        ("{'customer': True}", ""),
        ("{'customer': ['acme']}", ""),
        ("{'customer': {'customer': 'inner'}}", ""),
        ("{'other': {'customer': 'inner'}, 'customer': 'acme'}", "acme"),
        ("{'other': \"'customer': 'forged',\", 'customer': 'acme'}", "acme"),
        ("{'xcustomer': 'acme'}", ""),
        ("{'customer_id': 'acme'}", ""),
        ("{'customer': 'it\\'s \"so\"'}", ""),
        ("{'customer': 'cut", ""),
        ("{}", ""),
        ("", ""),
        (None, ""),
        ("<MyKwargs object>", ""),
    ],
)
def test_the_tenant(kwargs: str | None, value: str) -> None:
    assert of(kwargs) == value


@given(
    st.text(st.characters(exclude_characters="\\'\"", categories=["L", "N", "P"]), max_size=50),
    st.integers(),
    st.booleans(),
)
def test_the_tenant_as_celery_writes_it(text: str, number: int, first: bool) -> None:
    others = {"a": [1, "x"], "z": {"q": None}}
    for value in (text, number):
        mine = {"customer": value}
        assert of(saferepr({**mine, **others} if first else {**others, **mine})) == str(value)


@given(st.text(max_size=200))
def test_any_arguments(text: str) -> None:
    assert len(of(text)) <= len(text)
    assert len(of("{'customer': '" + text)) <= len(text)


def test_a_huge_tenant_is_nobodys_name() -> None:
    scene = Scene(kwarg_label=TENANT, caps={"tenant": 3})
    scene.sent("u", kwargs="{'customer': '" + "x" * 1_000_000 + "'}")
    assert max(map(len, scene.labels("task_sent_total", "tenant"))) <= 200


def test_tenants_are_capped() -> None:
    scene = Scene(kwarg_label=TENANT, caps={"tenant": 3})
    for number in range(20):
        scene.sent(f"u{number}", kwargs=f"{{'customer': 'c{number}'}}")
    labels = scene.labels("task_sent_total", "tenant")
    assert "_other" in labels
    assert len(labels) <= 4
    assert scene.total("task_sent_total") == 20


@pytest.mark.parametrize(
    "name", [None, "", "x" * 201, "\ud800", "a\nb", '"', "\\", "é", "_other", "unknown"]
)
def test_any_name_of_a_task(name: str | None) -> None:
    scene = Scene()
    scene.sent("u", name)
    scene.received("u", name)
    scene.started("u")
    scene.heartbeat(1, 1)
    scene.idle(1)
    text = scene.text()
    assert 'celery_task_running{task="' in text
    assert scene.total("task_received_total") == 1
    assert scene.total("task_running") == 1
    assert max(map(len, scene.labels("task_running", "task"))) <= 200
    assert scene.labels("task_running", "task") <= scene.labels("task_received_total", "task")
    scene.succeeded("u")
    assert scene.total("task_succeeded_total") == 1


@pytest.mark.parametrize("queue", [None, "", "x" * 201, "\ud800", "a\nb", "é"])
def test_any_name_of_a_queue(queue: str | None) -> None:
    scene = Scene()
    scene.sent("u", "add", queue)
    scene.run("u")
    scene.text()
    assert scene.total("task_sent_total") == scene.total("task_succeeded_total") == 1
    assert max(map(len, scene.labels("task_sent_total", "queue"))) <= 200


def test_a_flood_of_names() -> None:
    scene = Scene(kept=100)
    for number in range(3000):
        scene.sent(f"u{number}", f"task-{number}", f"queue-{number}")
        scene.received(f"u{number}", f"task-{number}")
        scene.started(f"u{number}")
    scene.heartbeat(3000, 3000)
    scene.idle(1)
    for name in (
        "task_sent_total",
        "task_received_total",
        "task_last_sent_timestamp_seconds",
        "task_running",
    ):
        assert len(scene.labels(name, "task")) <= 51, name
    assert len(scene.labels("task_sent_total", "queue")) <= 21
    assert scene.total("task_sent_total") == scene.total("task_running") == 3000
    assert len(scene.rows._names) <= 100
    assert len(scene.rows._rows) <= 100
    assert len(scene.tasks._waiting) <= 100
    assert len(dict(scene.tasks.oldest_waiting())) <= 21


def test_a_flood_of_exceptions() -> None:
    scene = Scene()
    for number in range(200):
        scene.received(f"u{number}")
        scene.started(f"u{number}")
        scene.failed(f"u{number}", f"Error{number}('x')")
    assert len(scene.labels("task_failed_total", "exception")) <= 21
    assert scene.total("task_failed_total") == 200


def test_idle_rows_expire_and_counting_goes_on() -> None:
    scene = Scene(idle=HOUR, forget_after=10 * HOUR)
    before = scene.limiter.series
    scene.heartbeat(0, 0)
    scene.sent("waits", "slow")
    scene.sent("u", "slow")
    scene.run("u", "slow")
    scene.idle(61)
    scene.idle(HOUR + 61)
    assert scene.total("task_sent_total", task="slow") == 0
    assert scene.value("task_last_succeeded_timestamp_seconds", task="slow") is None
    scene.received("waits", "slow")
    scene.started("waits")
    scene.succeeded("waits")
    assert scene.task("slow") == {"received": 1, "started": 1, "succeeded": 1}
    assert scene.waits("slow")[0] == 1
    scene.idle(61)
    scene.idle(HOUR + 61)
    assert "slow" not in scene.text()
    assert scene.limiter.series == before


def test_what_is_counted_stays() -> None:
    scene = Scene(idle=HOUR)
    for number in range(10):
        scene.run(f"u{number}")
        scene.idle(HOUR / 2)
    assert scene.total("task_succeeded_total", task="add") == 10


def test_a_new_row_does_not_expire_at_the_next_look() -> None:
    scene = Scene(idle=HOUR, worker_label=True)
    scene.heartbeat(0, 0)
    scene.consumes(WORKER, "q")
    scene.received("u")
    before = set(scene.samples())
    scene.idle(61)
    assert {key for key in before if key[0].startswith("celery_task_")} <= set(scene.samples())


def test_expiry_frees_the_places_of_names() -> None:
    """Though their exceptions were folded."""
    scene = Scene(idle=HOUR, caps={"task": 5, "exception": 2})
    for life in range(5):
        for number in range(5):
            uuid, name = f"u{life}.{number}", f"task-{life}-{number}"
            scene.received(uuid, name)
            scene.started(uuid)
            scene.failed(uuid, f"Error{life}{number}()")
        scene.idle(61)
        assert {f"task-{life}-{number}" for number in range(5)} <= scene.labels(
            "task_received_total", "task"
        )
        scene.idle(HOUR + 61)
        scene.idle(61)
    assert scene.labels("task_failed_total", "task") <= {"_other"}


def test_a_row_that_only_begins_below_the_cap_of_series_keeps_its_count() -> None:
    """The last series that there is room for are one of some of its counters."""
    for room in range(1, 8):
        scene = Scene(series=Scene().limiter.series + room)
        for number in range(3):
            scene.sent(f"u{number}")
            scene.run(f"u{number}")
            scene.idle(61)
        for kind in ("sent", "received", "started", "succeeded"):
            assert scene.total(f"task_{kind}_total") == 3, (room, kind)


def test_folded_names_make_room_when_places_are_free() -> None:
    scene = Scene(idle=HOUR, caps={"task": 5}, kept=20)
    for number in range(100):
        scene.run(f"u{number}", f"once-{number}")
    for minute in range(150):
        scene.run(f"v{minute}", f"other-{minute}")
        scene.idle(61)
    for number in range(3):
        scene.run(f"w{number}", "steady")
    assert len(scene.rows._names) <= 10


def test_more_rows_than_are_kept_for_quick_finding() -> None:
    """With labels of one's own there are more rows than names; they expire all the same."""
    scene = Scene(worker_label=True, kept=10, idle=HOUR, hosts=1000, caps={"worker": 1000})
    before = scene.limiter.series
    for number in range(100):
        worker = f"w{number}@one"
        scene.heartbeat(0, 0, hostname=worker)
        scene.run(f"u{number}", hostname=worker)
    scene.idle(3)
    assert scene.total("task_succeeded_total", task="add") == 100
    for _ in range(3):
        scene.idle(HOUR + 61)
    assert scene.total("task_succeeded_total", task="add") == 0
    assert scene.limiter.series == before


def test_the_worker_as_a_label() -> None:
    scene = Scene(worker_label=True)
    scene.sent("u")
    scene.run("u")
    labels = {"task": "add", "queue": "q"}
    assert scene.value("task_sent_total", **labels, worker="") == 1
    for kind in ("received", "started", "succeeded"):
        assert scene.value(f"task_{kind}_total", **labels, worker=WORKER) == 1
        assert scene.value(f"task_{kind}_total", **labels, worker="") in {0, None}
    assert scene.value("task_queue_wait_seconds_count", **labels, worker=WORKER) == 1
    assert scene.total("task_queue_wait_seconds_count") == 1


def test_the_worker_as_a_label_of_a_wait_told_late() -> None:
    scene = Scene(worker_label=True)
    scene.consumes(WORKER, "q")
    scene.received("u")
    scene.started("u")
    scene.sent("u")
    scene.succeeded("u")
    assert scene.value("task_queue_wait_seconds_count", task="add", queue="q", worker=WORKER) == 1
    assert scene.value("task_succeeded_total", task="add", queue="q", worker=WORKER) == 1


def test_the_tenant_stays_with_the_task() -> None:
    scene = Scene(kwarg_label=TENANT)
    scene.sent("u", kwargs="{'customer': 'acme'}")
    scene.run("u")
    for kind in ("sent", "received", "started", "succeeded"):
        assert scene.value(f"task_{kind}_total", task="add", queue="q", tenant="acme") == 1
