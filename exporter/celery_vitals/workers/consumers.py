"""How many workers consume each queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from celery_vitals.workers.worker import Worker


def count_consumers(
    queues: Iterable[str],
    workers: Sequence[Worker],
    up: Sequence[Worker],
    by_broker: Mapping[str, int | None],
    complete: bool,
) -> dict[str, tuple[int, int | None]]:
    """Return, for each queue, how many of the workers that are up consume it, and their slots.

    The slots are None when one of these workers has not reported its own.  A queue that none is
    known to consume is left out while one may: a worker has not reported its queues; not all
    workers are known (`complete` is False); or the broker counts more consumers than there are
    workers, up or not, that consumed it at last.
    """
    names = frozenset(queues)
    known = Counter(queue for worker in workers for queue in worker.queues or ())
    certain = complete and all(worker.queues is not None for worker in up)
    found: dict[str, tuple[int, int | None]] = {
        queue: (0, 0) for queue in names if certain and (by_broker.get(queue) or 0) <= known[queue]
    }
    for worker in up:
        slots = worker.stats.slots if worker.stats else None
        for queue in worker.queues or ():
            if queue in names:
                count, total = found.get(queue, (0, 0))
                found[queue] = (
                    count + 1,
                    None if total is None or slots is None else total + slots,
                )
    return found
