"""Workers that stop, die, freeze, restart, are busy or lost their queues: up, slots, start time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from tests.support.exporter import Exporter
from tests.support.scrape import Scrape
from tests.support.scraping import LocalExporter, local_exporter, state
from tests.support.servers import Broker, Fault, Proxy, Publisher, Worker, publish, wait_for

StartWorker = Callable[..., Worker]


def up(scrape: Scrape) -> dict[str, float]:
    return scrape.by("worker", "celery_worker_up")


def replied(scrape: Scrape) -> dict[str, float]:
    return scrape.by("worker", "celery_worker_replied")


def seen(scrape: Scrape, worker: str) -> float:
    """Return the time of the last reply or heartbeat of a worker."""
    return scrape.series("celery_worker_last_seen_timestamp_seconds")[
        ("source", "reply"), ("worker", worker)
    ]


def processed(scrape: Scrape, worker: str) -> float | None:
    return scrape.value("celery_worker_processed_total", worker=worker)


def start_all(start: StartWorker, broker: Broker, *names: str) -> list[Worker]:
    """Solo workers without heartbeats, one queue named after each."""
    return [
        start(broker, "solo", name, heartbeat=False, queues=(name.partition("@")[0],))
        for name in names
    ]


def test_stopped_or_killed_worker_is_down_and_forgotten_after_the_timeouts(
    broker: Broker, start_worker: StartWorker
) -> None:
    _, stopped, killed = start_all(start_worker, broker, "a@host1", "b@host1", "c@host1")
    with Exporter.of(broker, "--worker-timeout", "2", "--worker-forget-after", "7") as exporter:
        exporter.scrape()
        assert up(exporter.scrape()) == {"a@host1": 1, "b@host1": 1, "c@host1": 1}
        killed.kill()
        stopped.child.send_signal(signal.SIGTERM)
        ended = time.time()
        parted = {"a@host1": 1.0, "b@host1": 0.0, "c@host1": 0.0}
        down = wait_for(lambda: scrape if up(scrape := exporter.scrape()) == parted else None, 6)
        assert down is not None
        assert time.time() - ended < 6  # the timeout, and the scrape that it falls into
        assert [down.value("celery_queue_workers", queue=queue) for queue in "abc"] == [1, 0, 0]
        assert set(down.by("worker", "celery_worker_pool_slots")) == {"a@host1"}
        while len(now := up(exporter.scrape())) == 3:
            assert now == parted
            assert time.time() - ended < 12
            time.sleep(0.1)
        assert time.time() - seen(down, "c@host1") > 7
        wait_for(lambda: "host1" not in exporter.scrape().text.replace("a@host1", ""))
        assert up(exporter.scrape()) == {"a@host1": 1}


def test_one_without_heartbeat_gossip_and_mingle_is_up_as_long_as_it_answers(
    broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(broker, "solo", "quiet", heartbeat=False, gossip=False, mingle=False)
    with local_exporter(broker, worker_timeout=1) as local:
        local.scrape()
        for _ in range(2):
            time.sleep(
                1.1
            )  # longer than the timeout: a scrape asks, and does not go by what it knew
            assert up(local.scrape()) == {"quiet@test": 1}


def test_worker_without_consumers_is_up_and_has_no_consumed_queues(
    broker: Broker, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_vitals.workers.worker._QUEUES_FRESH", 0.0)
    start_worker(broker, "solo", queues=("celery", "other"))
    with local_exporter(broker) as local, Publisher(broker) as publisher:
        local.scrape()
        assert local.scrape().value("celery_worker_consumed_queues", worker="solo@test") == 2
        publisher.app.control.cancel_consumer("celery", connection=publisher._connection)
        publisher.app.control.cancel_consumer("other", connection=publisher._connection)

        def cancelled() -> Scrape | None:
            scrape = local.scrape()
            return (
                scrape
                if scrape.value("celery_worker_consumed_queues", worker="solo@test") == 0
                else None
            )

        scrape = wait_for(cancelled)
        assert scrape is not None
        assert up(scrape) == {"solo@test": 1}
        assert state(scrape, "solo") == "not_consuming"
        assert scrape.value("celery_queue_workers", queue="celery") == 0
        publisher.send("add", 1, 2, count=3)
        wait_for(lambda: local.scrape().value("celery_queue_length", queue="celery") == 3)


def test_frozen_worker_is_down_after_the_timeout_and_does_not_delay_scrapes(
    broker: Broker, start_worker: StartWorker
) -> None:
    frozen, _ = start_all(start_worker, broker, "frozen@host", "well@host")
    publish(broker, "add", 1, 2, queue="orphan", count=3)
    with Exporter.of(broker, "--worker-timeout", "3") as exporter:
        exporter.scrape()
        frozen.freeze()
        scrape = exporter.scrape(timeout=5)
        assert scrape.seconds < 5
        assert up(scrape) == {"frozen@host": 1, "well@host": 1}
        assert replied(scrape) == {"frozen@host": 0, "well@host": 1}
        assert scrape.value("celery_worker_reply_seconds", worker="frozen@host") is None
        assert scrape.value("celery_queue_length", queue="orphan") == 3
        assert scrape.value("celery_scrape_collector_success", collector="workers") == 1
        wait_for(lambda: up(exporter.scrape()) == {"frozen@host": 0, "well@host": 1})
        gone = {"worker": "frozen@host", "state": "gone"}
        assert exporter.scrape().value("celery_worker_state", **gone) == 1
        wait_for(lambda: exporter.scrape().seconds < 0.5)  # it is waited for no longer
        assert exporter.scrape().value("celery_queue_length", queue="orphan") == 3
        frozen.thaw()
        wait_for(lambda: up(exporter.scrape()) == {"frozen@host": 1, "well@host": 1})
        last = exporter.scrape()
        assert replied(last) == {"frozen@host": 1, "well@host": 1}
        assert (last.value("celery_worker_reply_seconds", worker="frozen@host") or 9) < 1


def test_one_with_all_slots_in_long_tasks_is_up(broker: Broker, start_worker: StartWorker) -> None:
    start_worker(broker, "prefork", concurrency=2)
    publish(broker, "sleep", 60, count=4)
    with local_exporter(broker) as local:
        wait_for(lambda: processed(local.scrape(), "prefork@test") == 2)
        scrape = local.scrape()
        assert up(scrape) == replied(scrape) == {"prefork@test": 1}
        assert scrape.value("celery_worker_pool_slots", worker="prefork@test") == 2
        assert scrape.value("celery_queue_slots", queue="celery") == 2
        assert processed(scrape, "prefork@test") == 2


def test_a_busy_solo_worker_is_not_down_and_its_late_answer_counts_in_the_next_round(
    broker: Broker, start_worker: StartWorker
) -> None:
    worker = start_worker(broker, "solo", heartbeat=False)
    with local_exporter(broker, worker_timeout=30) as local:
        local.scrape()
        before = local.scrape()
        publish(broker, "busy", 4)
        wait_for(lambda: "project.busy" in worker.log)
        busy = local.scrape(1.0)
        assert up(busy) == {"solo@test": 1}
        assert state(busy, "solo") == "busy"
        assert replied(busy) == {"solo@test": 0}
        assert busy.value("celery_queue_workers", queue="celery") == 1
        assert busy.value("celery_queue_slots", queue="celery") == 1
        asked = time.time()
        wait_for(lambda: "succeeded" in worker.log)
        time.sleep(0.5)  # its answer to the round before is on its way
        worker.freeze()
        late = local.scrape()
        worker.thaw()
        assert replied(late) == {"solo@test": 0}
        assert seen(late, "solo@test") > asked > seen(before, "solo@test")
        assert processed(late, "solo@test") == 1
        assert up(local.scrape()) == replied(local.scrape()) == {"solo@test": 1}
        assert state(local.scrape(), "solo") == "up"


def test_slow_answer_is_waited_for(redis_broker: Broker, start_worker: StartWorker) -> None:
    with Proxy(redis_broker.server.port) as proxy:
        behind = Broker(
            "redis",
            proxy.url(redis_broker.url),
            "",
            redis_broker.server,
            namespace=redis_broker.namespace,
        )
        start_worker(behind, "threads", "far", heartbeat=False)
        start_worker(redis_broker, "solo", "near")
        with local_exporter(redis_broker) as local:
            wait_for(lambda: replied(local.scrape()) == {"far@test": 1, "near@test": 1})
            proxy.delay = 0.35  # each way

            def waited_for() -> bool:
                scrape = local.scrape()
                assert replied(scrape) == {"far@test": 1, "near@test": 1}
                assert (scrape.value("celery_worker_reply_seconds", worker="far@test") or 0) > 0.7
                assert (scrape.value("celery_worker_reply_seconds", worker="near@test") or 9) < 0.5
                assert scrape.seconds < 2.5
                return True

            # Other traffic of the worker on the same connection can delay a reply beyond the limit
            # of one round.
            wait_for(waited_for)


def test_answer_before_the_last_packet_of_the_broadcast_counts(
    rabbitmq_broker: Broker, start_worker: StartWorker
) -> None:
    """The proxy's kernel holds a small packet back until the one before is acknowledged, which
    takes up to 40 ms: the workers have answered the first command by then.
    """
    start_worker(rabbitmq_broker, "threads", "w")
    with (
        Proxy(rabbitmq_broker.server.port) as proxy,
        local_exporter(rabbitmq_broker, broker_url=proxy.url(rabbitmq_broker.url)) as local,
    ):
        wait_for(lambda: replied(local.scrape()) == {"w@test": 1})
        scrapes = [local.scrape(names=("workers",)) for _ in range(30)]
    assert {
        scrape.value("celery_scrape_collector_success", collector="workers") for scrape in scrapes
    } == {1}


def test_workers_over_the_limit_are_a_blind_spot(
    redis_broker: Broker, start_worker: StartWorker
) -> None:
    for name in ("a", "b"):
        start_worker(redis_broker, "solo", name)
    with local_exporter(redis_broker, max_workers=1) as local:
        wait_for(lambda: local.scrape().value("celery_exporter_blind_spot", subject="workers") == 1)
        assert len(up(local.scrape())) == 1
    with local_exporter(redis_broker, max_workers=2) as local:
        wait_for(lambda: len(up(local.scrape())) == 2)
        assert local.scrape().value("celery_exporter_blind_spot", subject="workers") is None


def test_slots_of_eventlet_and_of_a_pool_that_scales(
    broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(broker, "eventlet", concurrency=5)
    start_worker(broker, "prefork", "scaled", queues=("scaled",), args=["--autoscale=10,2"])
    with local_exporter(broker) as local:
        local.scrape()
        scrape = local.scrape()
        assert scrape.by("worker", "celery_worker_pool_slots") == {
            "eventlet@test": 5,
            "scaled@test": 2,
        }
        infos = [dict(labels) for labels in scrape.series("celery_worker_info")]
        assert {one["worker"]: one["pool"] for one in infos} == {
            "eventlet@test": "eventlet",
            "scaled@test": "prefork",
        }
        publish(broker, "sleep", 30, queue="scaled", count=6)
        wait_for(
            lambda: (
                (local.scrape().value("celery_worker_pool_slots", worker="scaled@test") or 0) > 2
            )
        )


def test_restarted_worker_has_a_new_start_time(broker: Broker, start_worker: StartWorker) -> None:
    worker = start_worker(broker, "solo")
    publish(broker, "add", 1, 2, count=3)
    with local_exporter(broker) as local:
        wait_for(lambda: processed(local.scrape(), "solo@test") == 3)

        def start() -> float:
            return local.scrape().by("worker", "celery_worker_start_timestamp_seconds")["solo@test"]

        first = start()
        assert abs(time.time() - first) < 30
        time.sleep(1.1)
        assert start() == first
        worker.stop()
        worker.start()
        restarted = time.time()
        wait_for(lambda: start() != first)
        assert first + 1 < start() < restarted + 2
        scrape = local.scrape()
        assert processed(scrape, "solo@test") == 0
        assert scrape.value("celery_worker_restarts_total", worker="solo@test") == 1
        assert scrape.value("celery_worker_consumed_queues", worker="solo@test") == 1


def test_worker_states_stay_while_the_broker_is_unreachable(
    broker: Broker, start_worker: StartWorker
) -> None:
    (gone, _) = start_all(start_worker, broker, "gone@host", "well@host")
    with (
        Proxy(broker.server.port) as proxy,
        local_exporter(broker, broker_url=proxy.url(broker.url), worker_timeout=1) as local,
    ):
        local.scrape()
        gone.kill()
        wait_for(lambda: up(local.scrape()) == {"gone@host": 0, "well@host": 1})
        proxy.fault = Fault.REFUSE
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 0
            assert up(scrape) == {"gone@host": 0, "well@host": 1}
            assert replied(scrape) == {}
            assert (
                scrape.series("celery_queue_workers") == scrape.series("celery_queue_length") == {}
            )
            time.sleep(0.2)
        assert time.time() - seen(scrape, "well@host") > 2
        proxy.fault = Fault.NONE
        assert up(local.scrape()) == {"gone@host": 0, "well@host": 1}
        assert replied(local.scrape())["well@host"] == 1


def test_one_whose_application_serializes_with_pickle_is_up(
    broker: Broker, start_worker: StartWorker
) -> None:
    # It answers in pickle as well.
    conf = {"task_serializer": "pickle", "accept_content": ["json", "pickle"]}
    start_worker(broker, "solo", conf=conf, env={"C_FORCE_ROOT": "1"})
    with local_exporter(broker) as local:
        local.scrape()
        scrape = local.scrape()
        assert up(scrape) == replied(scrape) == {"solo@test": 1}
        assert scrape.value("celery_queue_workers", queue="celery") == 1


def test_first_scrape_has_all_workers(broker: Broker, start_worker: StartWorker) -> None:
    start_all(start_worker, broker, "a@host", "b@host")

    def first(local: LocalExporter) -> Scrape:
        scrape = local.scrape()
        assert scrape.seconds < 2
        return scrape

    with local_exporter(broker) as local:
        scrape = first(local)
        assert up(scrape) == replied(scrape) == {"a@host": 1, "b@host": 1}
        assert scrape.by("queue", "celery_queue_length") == {"a": 0, "b": 0}
        assert scrape.by("queue", "celery_queue_workers") == {"a": 1, "b": 1}
