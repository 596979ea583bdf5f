"""The failures that were looked into: why a test cannot pass in a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A failure, and whose it is."""

    rows: tuple[str, ...]
    test: str
    """Part of its name, with the file and the parameters."""
    why: str


_QUORUM = "Celery before 5.5 cannot consume quorum queues (`does not support global qos`)"
_THREADS = (
    "Celery before 5.7 loses task events of the pool `threads` in the worker, whose threads share a"
    " buffer without a lock; with `prefork` it loses none"
)
KNOWN = (
    Known(("celery-5.2", "celery-5.3", "celery-5.4"), "test_of_a_quorum_queue", _QUORUM),
    *(
        Known(("celery-5.4",), f"tests/integration/test_{part}", _THREADS)
        for part in (
            "event_loss.py",
            "event_stream.py::test_a_backlog",
            "stream.py::TestReceives::test_a_real_worker",
            "task_labels.py",
            "task_times.py",
        )
    ),
    Known(
        ("celery-5.2",),
        "test_every_pool_is_up_with_its_slots",
        "Celery 5.2 does not report the pool `gevent`, which is `unknown`; its slots are right",
    ),
    *(
        Known(
            ("python-3.10", "oldest-libraries"),
            test,
            "a warning at times: asyncio's TLS of 3.10 (rewritten in 3.11) leaves a transport open",
        )
        for test in (
            "test_partial_rotation_keeps_the_old_certificate",
            "test_healthy_server_with_tls",
        )
    ),
    Known(
        ("oldest-libraries",),
        "TestLeavesNothing::test_on_redis",
        "kombu before 5.6 has no `client_name`: the connections of the exporter have no name",
    ),
    Known(
        ("oldest-libraries",),
        "test_over_the_file_system",
        "kombu before 5.7 keeps the binding of a deleted file-system queue, which senders fill;"
        " the next exporter removes it",
    ),
)


def why(row: str, test: str) -> str | None:
    """The reason, for a failure that has one."""
    return next((one.why for one in KNOWN if row in one.rows and one.test in test), None)
