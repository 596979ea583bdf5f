"""Amazon SQS on moto with a real worker: queue lengths are read, nothing is created."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import urllib3

from tests.support.exporter import Exporter
from tests.support.scraping import LocalExporter, local_exporter
from tests.support.servers import (
    HOST,
    Broker,
    Fault,
    Proxy,
    SqsServer,
    Worker,
    free_port,
    publish,
    wait_for,
)
from tests.support.servers.sqs_server import OPTIONS, REGION

READ_ONLY = {"ListQueues", "GetQueueAttributes"}
KEY = "exporter"


@pytest.fixture(scope="module")
def sqs_server() -> Iterator[SqsServer]:
    with SqsServer() as server:
        yield server


@pytest.fixture
def broker(sqs_server: SqsServer) -> Iterator[Broker]:
    """An empty account."""
    with sqs_server.namespace() as broker:
        yield broker


@pytest.fixture
def account(sqs_server: SqsServer, broker: Broker) -> Iterator[Any]:
    """boto's client for it."""
    client = sqs_server.client()
    yield client
    client.close()


def queues_of(account: Any) -> list[str]:
    return sorted(url.rpartition("/")[2] for url in account.list_queues().get("QueueUrls", []))


@contextmanager
def refusing(server: SqsServer, queue: str, code: str) -> Iterator[str]:
    """Yield the URL of a proxy that answers requests for one queue with an error of SQS."""

    class Front(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {
                name: value for name, value in self.headers.items() if name.lower() != "host"
            }
            status, answer = (
                400,
                json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "no"}).encode(),
            )
            if f'/{queue}"'.encode() not in body:
                with urllib3.PoolManager() as pool:
                    given = pool.request(
                        "POST",
                        f"http://{HOST}:{server.port}{self.path}",
                        body=body,
                        headers=headers,
                    )
                status, answer = given.status, given.data
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer((HOST, 0), Front) as front:
        thread = threading.Thread(target=front.serve_forever, daemon=True)
        thread.start()
        yield server.url_of(KEY).replace(str(server.port), str(front.server_port))
        front.shutdown()
        thread.join()


def exporting(
    server: SqsServer, broker: Broker, options: dict[str, Any] = OPTIONS, **settings: Any
) -> Any:
    """Use an access key of the exporter, so that its calls are counted apart from a worker's."""
    given = {
        "broker_url": server.url_of(KEY),
        "result_backend": None,
        "broker_transport_options": options,
    }
    return local_exporter(broker, **given, **settings)


def lengths(local: LocalExporter) -> dict[str, float]:
    return local.scrape().by("queue", "celery_queue_length")


def reasons(local: LocalExporter) -> set[str]:
    failures = local.scrape(2.0, ("broker",)).series("celery_probe_failures_total")
    return {dict(labels)["reason"] for labels in failures}


def test_a_worker_s_queue_is_seen_and_nothing_is_created(
    sqs_server: SqsServer, broker: Broker, account: Any, start_worker: Callable[..., Worker]
) -> None:
    conf = {"broker_transport_options": OPTIONS}
    with exporting(sqs_server, broker, queues=("celery", "missing")) as local:
        assert local.scrape().value("celery_broker_up") == 1
        assert lengths(local) == {}
        assert queues_of(account) == []
        publish(broker, "add", 1, 2, count=3, conf=conf)
        wait_for(lambda: lengths(local) == {"celery": 3})
        worker = start_worker(broker, "solo", "w", conf=conf)
        wait_for(lambda: worker.log.count("succeeded in") == 3)
        publish(broker, "late", 4, conf=conf)

        def held() -> bool:
            scrape = local.scrape()
            assert scrape.value("celery_queue_length", queue="celery") == 0
            return bool(scrape.value("celery_queue_unacked_messages", queue="celery") == 1)

        wait_for(held)
        before = queues_of(account)
        scrape = local.scrape()
        success = scrape.by("collector", "celery_scrape_collector_success")
        assert success["broker"] == success["queues"] == 1
        assert success.keys() & {"backend", "workers", "tasks"} == set()
        assert scrape.value("celery_broker_info", transport="sqs") == 1
        assert scrape.series("celery_worker_up") == {}
        assert scrape.by("subject", "celery_exporter_blind_spot").keys() >= {
            "workers",
            "task_events",
            "queues",
        }
        texts = " ".join(spot.reason for spot in local.collector.status().blind_spots)
        assert "missing" in texts
        assert "would create topics" in texts
        assert queues_of(account) == before
    calls = sqs_server.calls(KEY)
    assert calls["GetQueueAttributes"] > 0
    assert set(calls) == READ_ONLY
    assert (
        sqs_server.calls("worker")["CreateQueue"] > 0
    )  # so it is known that a creation would have been seen


def test_delayed_messages_are_counted_separately(
    sqs_server: SqsServer, broker: Broker, account: Any
) -> None:
    url = account.create_queue(QueueName="celery")["QueueUrl"]
    account.send_message(QueueUrl=url, MessageBody="now")
    account.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=600)
    with exporting(sqs_server, broker, queues=("celery",)) as local:
        scrape = local.scrape()
        assert scrape.value("celery_queue_length", queue="celery") == 1
        assert scrape.value("celery_queue_delayed_messages", queue="celery") == 1
        assert scrape.value("celery_queue_unacked_messages", queue="celery") == 0


def test_queues_with_the_application_s_prefix_are_found_and_others_are_not(
    sqs_server: SqsServer, broker: Broker, account: Any
) -> None:
    options = {**OPTIONS, "queue_name_prefix": "shop-"}
    account.create_queue(QueueName="other-application")
    publish(
        broker, "add", 1, 2, queue="orders", count=2, conf={"broker_transport_options": options}
    )
    publish(broker, "add", 1, 2, queue="mail.out", conf={"broker_transport_options": options})
    with exporting(sqs_server, broker, options, queues=("mail.out",)) as local:
        assert lengths(local) == {"orders": 2, "mail.out": 1}


def test_queues_with_a_prefix_stay_however_often_they_are_looked_for(
    sqs_server: SqsServer, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_vitals.brokers.sqs.queues._LIST_EVERY", 0.0)
    # kombu replaces invalid characters: the queues are shop-prod_orders and shop-prod_mail-out.
    options = {**OPTIONS, "queue_name_prefix": "shop.prod:"}
    for queue in ("orders", "mail.out"):
        publish(broker, "add", 1, 2, queue=queue, conf={"broker_transport_options": options})
    with exporting(sqs_server, broker, options, queues=("mail.out",)) as local:
        for _ in range(4):
            assert lengths(local) == {"orders": 1, "mail.out": 1}


def test_queue_without_permission_does_not_affect_other_queues(
    sqs_server: SqsServer, broker: Broker, account: Any
) -> None:
    for name in ("mine", "theirs"):
        account.create_queue(QueueName=name)
    with refusing(sqs_server, "theirs", "AccessDenied") as url:
        given = {"broker_url": url, "result_backend": None, "broker_transport_options": OPTIONS}
        with local_exporter(broker, queues=("mine", "theirs"), **given) as local:
            assert lengths(local) == {"mine": 0}
            assert local.blind_spots()["queue_length"].endswith("for the queues: theirs. ")
        with local_exporter(broker, queues=("theirs",), **given) as local:
            assert lengths(local) == {}
            assert ("reason", "permission") in next(
                iter(local.scrape().series("celery_probe_failures_total"))
            )


@pytest.mark.parametrize(
    "code", ["RequestThrottled", "ThrottlingException", "ServiceUnavailable", "InternalError"]
)
def test_throttling_and_service_errors_have_reason_unavailable(
    sqs_server: SqsServer, broker: Broker, account: Any, code: str
) -> None:
    account.create_queue(QueueName="celery")
    with refusing(sqs_server, "celery", code) as url:
        given = {"broker_url": url, "result_backend": None, "broker_transport_options": OPTIONS}
        with local_exporter(broker, queues=("celery",), **given) as local:
            assert lengths(local) == {}
            assert ("reason", "unavailable") in next(
                iter(local.scrape().series("celery_probe_failures_total"))
            )


def test_only_predefined_queues_are_requested(
    sqs_server: SqsServer, broker: Broker, account: Any, start_worker: Callable[..., Worker]
) -> None:
    urls = {
        name: account.create_queue(QueueName=f"prod-{name}")["QueueUrl"]
        for name in ("celery", "mail")
    }
    options = {**OPTIONS, "predefined_queues": {name: {"url": url} for name, url in urls.items()}}
    conf = {"broker_transport_options": options}
    publish(broker, "add", 1, 2, queue="mail", count=2, conf=conf)
    # A key of its own: a request of another test's exporter may still be in flight.
    key = "predefined"
    given = {"broker_url": sqs_server.url_of(key), "broker_transport_options": options}
    with local_exporter(broker, **given, result_backend=None, queues=("unknown",)) as local:
        # The first scrape creates a client for each predefined queue and may exceed its deadline.
        wait_for(lambda: local.scrape().value("celery_broker_up") == 1)
        wait_for(lambda: lengths(local) == {"celery": 0, "mail": 2})
        start_worker(broker, "solo", "w", conf=conf, queues=("mail",))
        wait_for(lambda: lengths(local) == {"celery": 0, "mail": 0}, 30)
        assert "unknown" in local.blind_spots()["queues"]
    # Users of predefined queues often lack the permission for ListQueues.
    assert set(sqs_server.calls(key)) == {"GetQueueAttributes"}


def test_deleted_queue_has_no_series(sqs_server: SqsServer, broker: Broker, account: Any) -> None:
    url = account.create_queue(QueueName="celery")["QueueUrl"]
    with exporting(sqs_server, broker, queues=("celery",)) as local:
        assert lengths(local) == {"celery": 0}
        account.delete_queue(QueueUrl=url)
        assert lengths(local) == {}
        account.create_queue(QueueName="celery")
        assert lengths(local) == {"celery": 0}


def test_wrong_region_exports_no_length(
    sqs_server: SqsServer, broker: Broker, account: Any
) -> None:
    account.create_queue(QueueName="celery")
    with exporting(
        sqs_server, broker, {**OPTIONS, "region": "us-west-2"}, queues=("celery",)
    ) as local:
        assert lengths(local) == {}
        texts = " ".join(spot.reason for spot in local.collector.status().blind_spots)
        assert "the region us-west-2" in texts
        assert REGION not in texts


def test_unknown_credentials(sqs_server: SqsServer, broker: Broker) -> None:
    sqs_server.require_credentials(True)
    try:
        with exporting(sqs_server, broker) as local:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 0
            assert reasons(local) == {"authentication"}
    finally:
        sqs_server.require_credentials(False)


def test_away_and_back(sqs_server: SqsServer, broker: Broker) -> None:
    with Proxy(sqs_server.port) as proxy:
        url = sqs_server.url_of(KEY).replace(str(sqs_server.port), str(proxy.port))
        options = [
            "--broker-transport-option=region=eu-central-1",
            "--broker-transport-option=is_secure=false",
        ]
        with Exporter("--broker-url", url, *options) as exporter:
            wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)
            for fault, reason in (
                (Fault.REFUSE, "refused"),
                (Fault.SILENT, "timeout"),
                (Fault.BLACKHOLE, "timeout"),
            ):
                proxy.fault = fault
                scrapes = [exporter.scrape(timeout=1.5) for _ in range(4)]
                assert max(scrape.seconds for scrape in scrapes) < 2.5
                assert {scrape.value("celery_broker_up") for scrape in scrapes} == {0}
                failures = scrapes[-1].series("celery_probe_failures_total")
                assert reason in {dict(labels)["reason"] for labels in failures}
                proxy.fault = Fault.NONE
                wait_for(lambda: exporter.scrape(timeout=5).value("celery_broker_up") == 1)
            assert proxy.connections <= 2
        assert "s3cret" not in exporter.log


def test_where_nothing_listens(broker: Broker, sqs_server: SqsServer) -> None:
    url = sqs_server.url_of(KEY).replace(str(sqs_server.port), str(free_port()))
    with local_exporter(
        broker, broker_url=url, result_backend=None, broker_transport_options=OPTIONS
    ) as local:
        assert local.scrape().value("celery_broker_up") == 0
        assert reasons(local) == {"refused"}
