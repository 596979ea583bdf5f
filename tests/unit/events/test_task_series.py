"""Series of tasks: cardinality limits, lookup and expiry."""

from __future__ import annotations

import pytest
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.events.decode import Event
from celery_vitals.events.kwarg_label import KwargLabel
from celery_vitals.metrics.definitions import DEFINITIONS
from celery_vitals.metrics.tables import HistogramTable, ValueTable
from tests.support.scene import WORKER, Scene

TENANT = KwargLabel("tenant", "customer")
HOUR = 3600.0


def label_value(kwargs: str | None) -> str:
    return TENANT.value_of(Event("task-sent", "h", kwargs=kwargs))


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
def test_kwarg_label_value(kwargs: str | None, value: str) -> None:
    assert label_value(kwargs) == value


@given(
    st.text(st.characters(exclude_characters="\\'\"", categories=["L", "N", "P"]), max_size=50),
    st.integers(),
    st.booleans(),
)
def test_kwarg_label_of_any_arguments_written_by_celery(
    text: str, number: int, first: bool
) -> None:
    others = {"a": [1, "x"], "z": {"q": None}}
    for value in (text, number):
        mine = {"customer": value}
        assert label_value(saferepr({**mine, **others} if first else {**others, **mine})) == str(
            value
        )


@pytest.mark.parametrize(
    ("args", "position", "value"),
    [
        ("('acme',)", 0, "acme"),
        ("['acme', 2]", 0, "acme"),
        ("(1, 'acme')", 1, "acme"),
        ("(1, 'acme')", 0, "1"),
        ("(1, 'acme')", 2, ""),
        ("([1, 2], {'a': (3, 4)}, 'acme', 5)", 2, "acme"),
        ("('a,b)', -1.5)", 1, "-1.5"),
        ("(None, True)", 0, ""),
        ("(None, 'acme')", 1, "acme"),
        ("(['acme'],)", 0, ""),
        ('("o\'neil",)', 0, "o'neil"),
        ("('cut", 0, ""),
        ("('acme', ...)", 0, "acme"),
        ("('acme', ...)", 1, ""),
        ("()", 0, ""),
        ("", 0, ""),
        (None, 0, ""),
        (["acme"], 0, ""),
        ("<MyArgs object>", 0, ""),
    ],
)
def test_value_of_a_positional_argument(args: object, position: int, value: str) -> None:
    event = Event("task-sent", "h", args=args)
    assert KwargLabel("tenant", position).value_of(event) == value


@given(st.lists(st.text("abc,()[]{}:", max_size=5) | st.integers(), max_size=5), st.integers(0, 5))
def test_positional_arguments_as_celery_writes_them(values: list[str | int], position: int) -> None:
    event = Event("task-sent", "h", args=saferepr(tuple(values)))
    expected = str(values[position]) if position < len(values) else ""
    assert KwargLabel("tenant", position).value_of(event) == expected


@pytest.mark.parametrize("argument", ["customer", 1])
def test_where_the_parameters_are_known_an_argument_is_passed_either_way(
    argument: str | int,
) -> None:
    label = KwargLabel("tenant", argument, {"bill": ("amount", "customer")})
    for args, kwargs in (("(1, 'acme')", "{}"), ("(1,)", "{'customer': 'acme'}")):
        known = Event("task-sent", "h", name="bill", args=args, kwargs=kwargs)
        other = Event("task-sent", "h", name="other", args=args, kwargs=kwargs)
        assert label.value_of(known) == "acme"
        assert (label.value_of(other) == "acme") == ((argument == 1) == (kwargs == "{}"))


@given(st.text(max_size=200))
def test_kwarg_label_of_any_text(text: str) -> None:
    assert len(label_value(text)) <= len(text)
    assert len(label_value("{'customer': '" + text)) <= len(text)
    event = Event("task-sent", "h", args=text)
    assert len(KwargLabel("tenant", 1).value_of(event)) <= len(text)


@pytest.mark.parametrize(("length", "kept"), [(200, 200), (201, 200), (9000, 200), (1_000_000, 0)])
def test_kwarg_label_value_is_truncated(length: int, kept: int) -> None:
    """Arguments that are longer than Celery writes them are not searched to their end."""
    scene = Scene(kwarg_label=TENANT, caps={"tenant": 3})
    scene.sent("u", kwargs="{'customer': '" + "x" * length + "'}")
    assert [len(value) for value in scene.labels("task_sent_total", "tenant")] == [kept]


def test_number_of_kwarg_label_values_is_limited() -> None:
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


def test_number_of_task_and_queue_names_is_limited() -> None:
    scene = Scene(capacity=100)
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
    assert len(scene.index._names) <= 100
    assert len(scene.index._series) <= 100
    assert len(scene.tasks.waiting) <= 100
    assert len(dict(scene.tasks.waiting.oldest())) <= 21


def test_number_of_exceptions_is_limited() -> None:
    scene = Scene()
    for number in range(200):
        scene.received(f"u{number}")
        scene.started(f"u{number}")
        scene.failed(f"u{number}", f"Error{number}('x')")
    assert len(scene.labels("task_failed_total", "exception")) <= 21
    assert scene.total("task_failed_total") == 200


def test_idle_series_expire_and_later_events_are_counted() -> None:
    scene = Scene(idle_after=HOUR, forget_after=10 * HOUR)
    before = scene.limiter.series_count
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
    assert scene.limiter.series_count == before


def test_active_series_do_not_expire() -> None:
    scene = Scene(idle_after=HOUR)
    for number in range(10):
        scene.run(f"u{number}")
        scene.idle(HOUR / 2)
    assert scene.total("task_succeeded_total", task="add") == 10


def test_new_series_do_not_expire_at_the_next_check() -> None:
    scene = Scene(idle_after=HOUR, worker_label=True)
    scene.heartbeat(0, 0)
    scene.consumes(WORKER, "q")
    scene.received("u")
    before = set(scene.samples())
    scene.idle(61)
    assert {key for key in before if key[0].startswith("celery_task_")} <= set(scene.samples())


def test_expiry_makes_room_for_new_names() -> None:
    """Also where their exceptions were aggregated as `_other`."""
    scene = Scene(idle_after=HOUR, caps={"task": 5, "exception": 2})
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


def test_series_partly_within_the_limit_keep_their_counts() -> None:
    """The limit of series is reached between two counters of one task."""
    for room in range(1, 8):
        scene = Scene(max_series=Scene().limiter.series_count + room)
        for number in range(3):
            scene.sent(f"u{number}")
            scene.run(f"u{number}")
            scene.idle(61)
        for kind in ("sent", "received", "started", "succeeded"):
            assert scene.total(f"task_{kind}_total") == 3, (room, kind)


def test_aggregated_names_are_dropped_after_expiry() -> None:
    scene = Scene(idle_after=HOUR, caps={"task": 5}, capacity=20)
    for number in range(100):
        scene.run(f"u{number}", f"once-{number}")
    for minute in range(150):
        scene.run(f"v{minute}", f"other-{minute}")
        scene.idle(61)
    for number in range(3):
        scene.run(f"w{number}", "steady")
    assert len(scene.index._names) <= 10


def test_more_series_than_the_capacity_of_the_index_expire() -> None:
    """Opt-in labels give more series than names; they expire like the others."""
    scene = Scene(
        worker_label=True, capacity=10, idle_after=HOUR, max_workers=1000, caps={"worker": 1000}
    )
    before = scene.limiter.series_count
    for number in range(100):
        worker = f"w{number}@one"
        scene.heartbeat(0, 0, hostname=worker)
        scene.run(f"u{number}", hostname=worker)
    scene.idle(3)
    assert scene.total("task_succeeded_total", task="add") == 100
    for _ in range(3):
        scene.idle(HOUR + 61)
    assert scene.total("task_succeeded_total", task="add") == 0
    assert scene.limiter.series_count == before


def test_worker_label() -> None:
    scene = Scene(worker_label=True)
    scene.sent("u")
    scene.run("u")
    labels = {"task": "add", "queue": "q"}
    assert scene.value("task_sent_total", **labels) == 1  # producers are no workers
    for kind in ("received", "started", "succeeded"):
        assert scene.value(f"task_{kind}_total", **labels, worker=WORKER) == 1
        assert scene.value(f"task_{kind}_total", **labels, worker="") is None
    assert scene.value("task_queue_wait_seconds_count", **labels, worker=WORKER) == 1
    assert scene.total("task_queue_wait_seconds_count") == 1


def test_worker_label_of_a_wait_observed_late() -> None:
    scene = Scene(worker_label=True)
    scene.consumes(WORKER, "q")
    scene.received("u")
    scene.started("u")
    scene.sent("u")
    scene.succeeded("u")
    assert scene.value("task_queue_wait_seconds_count", task="add", queue="q", worker=WORKER) == 1
    assert scene.value("task_succeeded_total", task="add", queue="q", worker=WORKER) == 1


def test_kwarg_label_is_kept_for_all_events_of_a_task() -> None:
    scene = Scene(kwarg_label=TENANT)
    scene.sent("u", kwargs="{'customer': 'acme'}")
    scene.run("u")
    for kind in ("sent", "received", "started", "succeeded"):
        assert scene.value(f"task_{kind}_total", task="add", queue="q", tenant="acme") == 1


def test_families_are_those_of_the_tables_in_the_order_of_their_declaration() -> None:
    tables = Scene().tables
    tables.comment = "an attribute that is no table"  # type: ignore[attr-defined]
    shown = [family.name for family in tables.families()]
    held = {
        table.metric.name
        for table in vars(tables).values()
        if isinstance(table, ValueTable | HistogramTable)
    }
    declared = [definition.name for definition in DEFINITIONS]
    assert {name.removesuffix("_total") for name in held} == set(shown)
    assert shown == [name.removesuffix("_total") for name in declared if name in held]
