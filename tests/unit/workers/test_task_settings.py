"""The settings of tasks: how replies are read, and which workers are asked for them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

from celery_vitals.workers.registered_tasks import RegisteredTask, registered_tasks, tasks_of
from celery_vitals.workers.task_settings import TaskSettings
from celery_vitals.workers.worker import Worker

ADD = RegisteredTask(acks_late=True, max_retries=3)


@pytest.mark.parametrize(
    ("entry", "name", "task"),
    [
        ("p.add [acks_late=True max_retries=3]", "p.add", RegisteredTask(True, 3)),
        (
            "p.add [rate_limit=10/m acks_late=False max_retries=0]",
            "p.add",
            RegisteredTask(False, 0, "10/m"),
        ),
        ("p.add [acks_late=True]", "p.add", RegisteredTask(True, math.inf)),
        (
            "p.auto [acks_late=False max_retries=3 retry_kwargs={'x': [1], 'max_retries': 5}]",
            "p.auto",
            RegisteredTask(False, 5),
        ),
        (
            "p.auto [acks_late=1 max_retries=3 retry_kwargs={'max_retries': None}]",
            "p.auto",
            RegisteredTask(True, math.inf),
        ),
        ("p.add [acks_late=False max_retries=often]", "p.add", RegisteredTask(False, None)),
        ("p.add", "p.add", RegisteredTask(None, None)),
        ("my task [v2] [acks_late=0 max_retries=3]", "my task [v2]", RegisteredTask(False, 3)),
        ("my task [v2]", "my task [v2]", RegisteredTask(None, None)),
        ("two\nlines [acks_late=True]", "two\nlines", RegisteredTask(True, math.inf)),
    ],
)
def test_an_entry_has_the_name_and_its_settings(
    entry: str, name: str, task: RegisteredTask
) -> None:
    assert registered_tasks([entry]) == {name: task}


@pytest.mark.parametrize("body", [None, {"error": "KeyError"}, "x", 3])
def test_a_reply_of_another_kind_has_no_tasks(body: Any) -> None:
    assert registered_tasks(body) is None


def test_the_tasks_of_an_app_have_the_settings_of_its_configuration() -> None:
    app = Celery("x", set_as_current=False)
    app.conf.task_acks_late = True
    app.conf.task_annotations = {"p.annotated": {"acks_late": False}}

    def run() -> None:
        """Do nothing."""

    app.task(run, name="p.add", shared=False)
    app.task(run, name="p.early", shared=False, acks_late=False, max_retries=None)
    app.task(run, name="p.annotated", shared=False, retry_kwargs={"max_retries": 7})
    settings = TaskSettings(tasks_of(app))
    late = {name: settings.late(f"p.{name}") for name in ("add", "early", "annotated", "other")}
    assert late == {"add": True, "early": False, "annotated": False, "other": None}
    retries = {name: settings.max_retries(f"p.{name}") for name in late}
    assert retries == {"add": 3, "early": math.inf, "annotated": 7, "other": None}
    assert settings.late("celery.chord_unlock") is True


def test_an_app_whose_tasks_cannot_be_read_has_none() -> None:
    class Broken(Celery):  # type: ignore[misc]
        @property
        def tasks(self) -> Any:
            raise ZeroDivisionError

    assert tasks_of(Broken("x", set_as_current=False)) == {}


class Cluster:
    """Workers of one registry, and the settings that are asked of them."""

    def __init__(self, count: int) -> None:
        names = [f"w{number}@host" for number in range(count)]
        self.workers = {name: Worker(name, 0.0, 0.0) for name in names}
        self.settings = TaskSettings()
        self.asked: list[str] = []

    def restart(self, name: str, at: float) -> None:
        worker = self.workers[name]
        process = replace(worker, restarts=worker.restarts + 1)
        object.__setattr__(process, "processes", _started(at))
        self.workers[name] = process

    def round(self, tasks: dict[str, RegisteredTask], silent: bool = False) -> frozenset[str]:
        names = self.settings.workers_to_ask(self.workers.values(), self.workers.keys())
        self.settings.asked(self.workers.values(), names)
        for name in () if silent else names:
            self.settings.replied(name, tasks)
        self.asked += names
        return names


def _started(at: float) -> Any:
    return (type("Process", (), {"started": at})(),)


def test_a_cluster_of_equal_workers_costs_no_more_than_two_replies() -> None:
    cluster = Cluster(200)
    names = [f"p.task{number}" for number in range(300)]
    cluster.settings.request((name, f"w{n % 200}@host") for n, name in enumerate(names))
    for _ in range(5):
        cluster.round(dict.fromkeys(names, ADD))
    assert len(cluster.asked) == 2
    assert {cluster.settings.late(name) for name in names} == {True}


def test_nothing_is_asked_while_no_task_is_received() -> None:
    assert Cluster(3).round({}) == frozenset()


def test_a_worker_that_is_unknown_or_does_not_answer_is_not_asked() -> None:
    settings = TaskSettings()
    settings.request([("p.add", "gone@host"), ("p.sub", "silent@host")])
    silent = Worker("silent@host", 0.0, 0.0)
    assert settings.workers_to_ask([silent], ()) == frozenset()
    assert settings.workers_to_ask([silent], {"silent@host"}) == {"silent@host"}


def test_a_process_is_asked_once_even_without_a_reply() -> None:
    cluster = Cluster(1)
    cluster.settings.request([("p.add", "w0@host")])
    assert cluster.round({}, silent=True) == {"w0@host"}
    assert cluster.round({}, silent=True) == frozenset()
    cluster.restart("w0@host", at=1.0)
    assert cluster.round({}, silent=True) == {"w0@host"}


def test_a_name_that_workers_do_not_have_is_asked_for_only_three_times() -> None:
    cluster = Cluster(200)
    for number in range(200):
        cluster.settings.request([("shadow", f"w{number}@host"), ("p.add", "w0@host")])
        cluster.round({"p.add": ADD})
    assert len(cluster.asked) <= 4
    assert cluster.settings.late("shadow") is None


def test_the_new_process_of_a_deployment_is_asked_again() -> None:
    cluster = Cluster(200)
    cluster.settings.request([("p.add", "w0@host")])
    cluster.round({"p.add": ADD})
    for name in cluster.workers:
        cluster.restart(name, at=math.inf)
    assert cluster.settings.late("p.add")
    cluster.round({"p.add": RegisteredTask(False, math.inf)})
    assert cluster.asked == ["w0@host", "w0@host"]
    assert cluster.settings.late("p.add") is False
    assert cluster.settings.max_retries("p.add") == math.inf
    # One reply after all of them have started is enough.
    for name in cluster.workers:
        cluster.restart(name, at=1.0)
    cluster.settings.request([("p.add", "w7@host")])
    assert cluster.round({}) == frozenset()


def test_tasks_of_an_app_are_not_asked_for() -> None:
    settings = TaskSettings({"p.add": ADD})
    settings.request([("p.add", "w@host")])
    worker = Worker("w@host", 0.0, 0.0)
    assert settings.workers_to_ask([worker], {"w@host"}) == frozenset()


def test_the_number_of_tasks_is_limited() -> None:
    settings = TaskSettings()
    settings.request([("wanted", "w@host")])
    settings.replied("w@host", dict.fromkeys(map(str, range(30_000)), ADD) | {"wanted": ADD})
    assert settings.late("wanted") is True
    assert settings.late("1") is None
