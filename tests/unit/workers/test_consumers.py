"""How many workers consume a queue: 0 only where no worker may consume it."""

from __future__ import annotations

from tests.support.worker_farm import Counts, Farm, W

QUEUES = ("q", "other")


def consumers(farm: Farm) -> dict[str, int]:
    return {queue: count for queue, (count, _) in farm.registry.consumers_of(QUEUES).items()}


def test_a_queue_of_other_workers_has_none(farm: Farm) -> None:
    assert consumers(farm) == {"q": 0, "other": 0}
    farm.add()
    assert consumers(farm) == {"q": 1, "other": 0}


def test_a_worker_that_has_not_reported_its_queues_may_consume_any(farm: Farm) -> None:
    farm.add()
    farm.heartbeat("silent@host")
    assert consumers(farm) == {"q": 1}
    farm.registry.queues_replied("silent@host", [{"name": "third"}])
    assert consumers(farm) == {"q": 1, "other": 0}


def test_a_worker_that_is_down_consumes_none(farm: Farm) -> None:
    farm.add()
    farm.heartbeat("silent@host")
    farm.registry.offline("silent@host")
    assert consumers(farm) == {"q": 1, "other": 0}


def test_a_worker_over_the_limit_may_consume_any(farm: Farm) -> None:
    farm.registry._max_workers = 1
    farm.add()
    farm.heartbeat("second@host")
    assert consumers(farm) == {"q": 1}


def test_consumers_by_the_broker_that_no_worker_explains(farm: Farm) -> None:
    """Workers without remote control and heartbeats, or programs that are no workers."""
    farm.add()
    farm.observe(q=Counts(consumers=1), other=Counts(consumers=2))
    assert consumers(farm) == {"q": 1}
    farm.observe(q=Counts(consumers=1), other=Counts(consumers=0))
    assert consumers(farm) == {"q": 1, "other": 0}


def test_a_worker_that_is_down_explains_the_consumer_that_the_broker_still_counts(
    farm: Farm,
) -> None:
    """A frozen worker is connected until the broker misses its heartbeats."""
    farm.add()
    farm.registry.offline(W)
    farm.observe(q=Counts(consumers=1))
    assert consumers(farm)["q"] == 0


def test_workers_that_never_reply_are_named_after_some_rounds(farm: Farm) -> None:
    farm.add()
    farm.heartbeat("silent@host")
    for _ in range(3):
        assert farm.registry.without_replies() == ()
        farm.heartbeat("silent@host")
        farm.round(W)
    assert farm.registry.without_replies() == ("silent@host",)
    farm.round(W, "silent@host")
    assert farm.registry.without_replies() == ()
    for _ in range(4):  # one that has replied is busy or lost
        farm.heartbeat("silent@host")
        farm.round(W)
    assert farm.registry.without_replies() == ()
