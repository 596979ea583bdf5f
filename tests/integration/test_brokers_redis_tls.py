"""Redis with TLS and real workers: full data, or a failure with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.support.exporter import Exporter
from tests.support.scraping import failure_reasons, local_exporter, sees_everything, words
from tests.support.servers import (
    Broker,
    Certificates,
    Fault,
    Proxy,
    Publisher,
    RedisServer,
    Worker,
    project_environment,
    publish,
    wait_for,
)


def in_url(options: Mapping[str, str]) -> str:
    return "&".join(f"{name}={value}" for name, value in options.items())


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    """Of the server that wants TLS."""
    return Certificates()


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[RedisServer]:
    with RedisServer(tls=certificates) as server:
        yield server


class TestTls:
    @pytest.fixture
    def broker(self, tls_server: RedisServer, certificates: Certificates) -> Iterator[Broker]:
        with tls_server.namespace() as broker:
            url = f"{broker.url}?{in_url(certificates.redis_options())}"
            yield Broker(broker.kind, broker.url, url, broker.server, namespace=broker.namespace)

    def test_with_a_client_certificate_and_an_authority(
        self, broker: Broker, certificates: Certificates, start_worker: Callable[..., Worker]
    ) -> None:
        options = certificates.redis_options()
        conf = {"broker_use_ssl": options | {"ssl_cert_reqs": 2}}
        start_worker(broker, "solo", "w", events=True, conf=conf)
        publish(broker, "add", 1, 2, queue="orphan", count=3, conf=conf)
        with (
            local_exporter(broker, broker_ssl_options=options) as local,
            Publisher(broker, conf) as publisher,
        ):
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            publisher.send("add", 1, 2)
            wait_for(lambda: sees_everything(local, "w@test", celery=0, orphan=3))
            spots = local.scrape().by("subject", "celery_exporter_blind_spot")
            assert not {"broker_certificate", "result_backend_certificate"} & spots.keys()

    @pytest.mark.parametrize("way", ["options", "query"])
    def test_from_the_command_line(
        self, way: str, broker: Broker, certificates: Certificates
    ) -> None:
        options = (
            words("--broker-ssl-option", certificates.redis_options()) if way == "options" else []
        )
        url = broker.url if way == "options" else broker.backend_url
        with Exporter(
            "--broker-url", url, "--result-backend", broker.backend_url, *options
        ) as exporter:
            scrape = exporter.scrape(timeout=5)
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1

    def test_everything_is_taken_from_the_app(
        self, broker: Broker, certificates: Certificates
    ) -> None:
        conf = {"broker_use_ssl": certificates.redis_options() | {"ssl_cert_reqs": 2}}
        with Exporter(
            "--app", "project.app:app", env=project_environment(broker, conf)
        ) as exporter:
            scrape = exporter.scrape(timeout=5)
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1
            assert "broker_certificate" not in scrape.by("subject", "celery_exporter_blind_spot")

    def test_a_handshake_that_hangs_is_given_up_in_time(
        self, broker: Broker, certificates: Certificates
    ) -> None:
        with Proxy(broker.server.port) as proxy:
            proxy.fault = Fault.SILENT
            options = certificates.redis_options()
            with local_exporter(
                broker,
                broker_url=proxy.url(broker.url),
                result_backend=None,
                broker_ssl_options=options,
                timeout=2,
            ) as local:
                scrapes = [local.scrape(2.0) for _ in range(3)]
                assert max(scrape.seconds for scrape in scrapes) < 3
                assert {scrape.value("celery_broker_up") for scrape in scrapes} == {0}
                assert failure_reasons(local) <= {"timeout", "stuck"}
                proxy.fault = Fault.NONE
                wait_for(lambda: local.scrape().value("celery_broker_up") == 1)

    def test_unverified_certificate_is_a_blind_spot(
        self, broker: Broker, certificates: Certificates
    ) -> None:
        options = certificates.redis_options() | {
            "ssl_cert_reqs": "none",
            "ssl_ca_certs": str(certificates.other_authority),
        }
        backend = f"{broker.url}?{in_url(options)}"
        with local_exporter(broker, broker_ssl_options=options, result_backend=backend) as local:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1
            found = scrape.by("subject", "celery_exporter_blind_spot")
            assert {"broker_certificate", "result_backend_certificate"} <= found.keys()
            blind_spots = {spot.subject: spot for spot in local.collector.status().blind_spots}
            assert "not verified" in blind_spots["broker_certificate"].reason
            assert "ssl_cert_reqs" in blind_spots["broker_certificate"].setting

    def test_without_options_certificate_is_not_verified_and_a_blind_spot(
        self, certificates: Certificates
    ) -> None:
        with RedisServer(tls=certificates, extra_args=["--tls-auth-clients", "no"]) as server:
            broker = Broker("redis", server.url, "", server)
            with local_exporter(broker, result_backend=None) as local:
                scrape = local.scrape()
                assert scrape.value("celery_broker_up") == 1
                assert "broker_certificate" in scrape.by("subject", "celery_exporter_blind_spot")

    def test_with_the_wrong_authority(self, broker: Broker, certificates: Certificates) -> None:
        wrong = certificates.redis_options() | {"ssl_ca_certs": str(certificates.other_authority)}
        backend = f"{broker.url}?{in_url(wrong)}"
        with local_exporter(broker, broker_ssl_options=wrong, result_backend=backend) as local:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 0
            assert scrape.value("celery_result_backend_up") == 0
            failures = scrape.series("celery_probe_failures_total")
            assert {dict(labels)["reason"] for labels in failures} == {"tls"}

    def test_without_the_client_certificate(
        self, broker: Broker, certificates: Certificates
    ) -> None:
        with local_exporter(
            broker,
            broker_ssl_options={"ssl_ca_certs": str(certificates.authority)},
            result_backend=None,
        ) as local:
            assert local.scrape().value("celery_broker_up") == 0
            assert failure_reasons(local) == {"tls"}

    def test_tls_client_against_plain_server_fails(self, redis_broker: Broker) -> None:
        url = redis_broker.url.replace("redis:", "rediss:")
        with local_exporter(redis_broker, broker_url=url, timeout=1) as local:
            assert local.scrape(2.0).value("celery_broker_up") == 0
            assert failure_reasons(local) <= {
                "tls",
                "closed",
                "timeout",
            }  # Redis waits for the rest of such a command

    def test_plain_client_against_tls_server_fails(self, broker: Broker) -> None:
        with local_exporter(
            broker, broker_url=broker.url.replace("rediss:", "redis:"), result_backend=None
        ) as local:
            assert local.scrape().value("celery_broker_up") == 0
            assert failure_reasons(local) <= {"protocol", "closed"}
