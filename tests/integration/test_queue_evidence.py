"""Which queues are proved to be Celery's, and which queues each worker consumes."""

from __future__ import annotations

from collections.abc import Callable

from kombu import Connection, Exchange, Queue

from tests.support.exporter import Exporter
from tests.support.scraping import local_exporter
from tests.support.servers import Broker, Publisher, Worker, publish, queues_conf, wait_for
from tests.support.task_series import SENT_EVENTS, following

StartWorker = Callable[..., Worker]
EVIDENCE = "celery_queue_evidence_info"
WORKER_QUEUES = "celery_worker_queue_info"


def evidence(exporter: Exporter) -> dict[str, str]:
    """Return the evidence by queue, and an empty string for queues without."""
    scrape = exporter.scrape()
    labels = [dict(series) for series in scrape.series(EVIDENCE)]
    proved = {one["queue"]: one["evidence"] for one in labels}
    return dict.fromkeys(scrape.by("queue", "celery_queue_length"), "") | proved


def consumed(exporter: Exporter) -> set[tuple[str, str]]:
    """Return the pairs of worker and queue."""
    labels = [dict(series) for series in exporter.scrape().series(WORKER_QUEUES)]
    return {(one["worker"], one["queue"]) for one in labels}


def fill(broker: Broker, queue: Queue) -> None:
    """Send a message to a queue as another program does: it is no task."""
    with Connection(broker.url) as connection, connection.channel() as channel:
        queue(channel).declare()
        connection.Producer().publish("{}", exchange=queue.exchange, routing_key=queue.routing_key)


def test_settings_workers_and_events_prove_a_queue(
    broker: Broker, start_worker: StartWorker
) -> None:
    start_worker(broker, "solo", queues=("served",))
    with following(broker, "--queue", "named") as exporter:
        publish(broker, "add", 1, 2, queue="named", conf=SENT_EVENTS)
        publish(broker, "add", 1, 2, queue="sent", conf=SENT_EVENTS)
        expected = {"named": "setting", "served": "worker", "sent": "event"}
        wait_for(lambda: evidence(exporter) == expected, what="evidence")


def test_queue_without_sent_events_is_proved_by_the_bindings_of_redis_only(broker: Broker) -> None:
    publish(broker, "add", 1, 2, queue="misspelt")
    proof = "binding" if broker.kind == "redis" else ""
    with Exporter.of(broker) as exporter:
        wait_for(lambda: evidence(exporter) == {"misspelt": proof}, what="evidence")


def test_dead_letters_and_queues_of_other_programs_are_not_proved(
    rabbitmq_broker: Broker, start_worker: StartWorker
) -> None:
    dead = Queue("mail.dead", Exchange("dead", "topic"), routing_key="#")
    fill(rabbitmq_broker, dead)
    fill(rabbitmq_broker, Queue("invoices", Exchange("invoices"), routing_key="invoices"))
    conf = queues_conf("mail", **{"x-dead-letter-exchange": "dead"})
    start_worker(rabbitmq_broker, "solo", queues=("mail",), conf=conf)
    with Exporter.of(rabbitmq_broker) as exporter:
        expected = {"mail": "worker", "mail.dead": "", "invoices": ""}
        wait_for(lambda: evidence(exporter) == expected, what="evidence")


def test_cancelled_consumer_ends_the_series_of_its_queue_and_not_its_evidence(
    broker: Broker, start_worker: StartWorker
) -> None:
    worker = start_worker(broker, "threads", queues=("mail", "orders"))
    with Exporter.of(broker) as exporter, Publisher(broker) as publisher:
        both = {("threads@test", "mail"), ("threads@test", "orders")}
        wait_for(lambda: consumed(exporter) == both, what="both queues")
        wait_for(lambda: evidence(exporter) == {"mail": "worker", "orders": "worker"})
        with publisher.app.connection_for_write() as connection:
            publisher.app.control.cancel_consumer("mail", connection=connection)
        wait_for(lambda: consumed(exporter) == {("threads@test", "orders")}, 60, what="one queue")
        publisher.send("add", 1, 2, queue="mail")
        wait_for(lambda: evidence(exporter).get("mail") == "worker", what="evidence of mail")
    worker.close()


def test_excluded_queues_have_no_series(broker: Broker, start_worker: StartWorker) -> None:
    start_worker(broker, "solo", queues=("mail", "tmp-1"))
    with local_exporter(broker, queue_exclude=("tmp-*",)) as local:
        wait_for(lambda: local.scrape().by("queue", WORKER_QUEUES) == {"mail": 1})
