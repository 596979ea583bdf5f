"""RabbitMQ with TLS and with several addresses: full data, or a failure with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.exporter import Exporter
from tests.support.scraping import local_exporter, sees_everything
from tests.support.servers import (
    HOST,
    Broker,
    Certificates,
    Fault,
    Proxy,
    Publisher,
    RabbitMQServer,
    Worker,
    free_port,
    publish,
    wait_for,
)
from tests.support.servers.certificates import CLIENT


def reason(broker: Broker, **settings: Any) -> str:
    """Why the broker does not answer."""
    with local_exporter(
        broker, **{"result_backend": None, "rabbitmq_management_url": None, **settings}
    ) as local:
        scrape = local.scrape(3.0, ("broker",))
        assert scrape.value("celery_broker_up") == 0
        (labels,) = scrape.series("celery_probe_failures_total")
        return dict(labels)["reason"]


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(scope="module")
def tls_broker(certificates: Certificates) -> Iterator[Broker]:
    """One that wants a certificate of its clients; for all tests of this module."""
    with RabbitMQServer(tls=certificates) as server, server.namespace() as broker:
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        server.api("PUT", f"users/{CLIENT}", {"password_hash": "", "tags": ""})
        server.api("PUT", f"permissions/{broker.namespace}/{CLIENT}", everything)
        yield broker


class TestTls:
    @pytest.mark.parametrize("login", ["password", "certificate"])
    def test_with_a_client_certificate(
        self,
        login: str,
        tls_broker: Broker,
        certificates: Certificates,
        start_worker: Callable[..., Worker],
    ) -> None:
        options = certificates.amqp_options()
        conf = {"broker_use_ssl": options}
        start_worker(tls_broker, "solo", "w", events=True, conf=conf, queues=(login,))
        url = tls_broker.url
        if login == "certificate":
            url = (
                f"amqps://{HOST}:{urlsplit(url).port}/{tls_broker.namespace}?login_method=EXTERNAL"
            )
        with (
            local_exporter(tls_broker, broker_url=url, broker_ssl_options=options) as local,
            Publisher(tls_broker, conf) as publisher,
        ):
            wait_for(lambda: local.scrape().value("celery_exporter_event_stream_up") == 1)
            publisher.send("add", 1, 2, queue=login)
            wait_for(lambda: sees_everything(local, "w@test", **{login: 0}))
            assert "broker_certificate" not in local.scrape().by(
                "subject", "celery_exporter_blind_spot"
            )

    def test_from_the_command_line(self, tls_broker: Broker, certificates: Certificates) -> None:
        options = [
            f"--broker-ssl-option={name}={value}"
            for name, value in certificates.amqp_options().items()
        ]
        with Exporter.of(tls_broker, *options) as exporter:
            scrape = exporter.scrape(timeout=5)
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1

    @pytest.mark.parametrize(
        ("without", "expected"),
        [
            ({"cert_reqs": "none", "ca_certs": ""}, "is not verified"),
            ({"server_hostname": ""}, "but not the name in it"),
        ],
    )
    def test_unverified_certificate_is_a_blind_spot(
        self, without: dict[str, str], expected: str, tls_broker: Broker, certificates: Certificates
    ) -> None:
        options = {
            name: value
            for name, value in {**certificates.amqp_options(), **without}.items()
            if value
        }
        if "cert_reqs" in without:
            options.pop("server_hostname")
        with local_exporter(tls_broker, broker_ssl_options=options) as local:
            scrape = local.scrape()
            assert scrape.value("celery_broker_up") == 1
            assert "broker_certificate" in scrape.by("subject", "celery_exporter_blind_spot")
            (text,) = (
                spot.reason
                for spot in local.collector.status().blind_spots
                if spot.subject == "broker_certificate"
            )
            assert expected in text

    def test_failure_reason_matches_the_cause(
        self, tls_broker: Broker, certificates: Certificates
    ) -> None:
        good = certificates.amqp_options()
        assert (
            reason(
                tls_broker,
                broker_ssl_options=good | {"ca_certs": str(certificates.other_authority)},
            )
            == "tls"
        )
        assert (
            reason(tls_broker, broker_ssl_options=good | {"server_hostname": "elsewhere.example"})
            == "tls"
        )
        assert reason(tls_broker) == "tls"  # the system's own authorities do not know this one
        without = {name: good[name] for name in ("ca_certs", "server_hostname")}
        assert reason(tls_broker, broker_ssl_options=without) in ("tls", "closed")
        plain = tls_broker.url.replace("amqps:", "amqp:")
        assert reason(tls_broker, broker_url=plain) in ("closed", "protocol")
        wrong = tls_broker.url.replace("vitals-secret", "wrong")
        assert reason(tls_broker, broker_url=wrong, broker_ssl_options=good) in (
            "authentication",
            "permission",
        )

    def test_a_handshake_that_hangs_is_given_up_in_time(
        self, tls_broker: Broker, certificates: Certificates
    ) -> None:
        with Proxy(tls_broker.server.port) as proxy:
            proxy.fault = Fault.SILENT
            options = certificates.amqp_options()
            url = proxy.url(tls_broker.url)
            with local_exporter(
                tls_broker, broker_url=url, broker_ssl_options=options, timeout=2
            ) as local:
                scrapes = [local.scrape(2.0) for _ in range(3)]
                assert max(scrape.seconds for scrape in scrapes) < 3
                assert {scrape.value("celery_broker_up") for scrape in scrapes} == {0}
                proxy.fault = Fault.NONE
                wait_for(lambda: local.scrape().value("celery_broker_up") == 1)

    def test_tls_client_against_plain_server_fails(self, rabbitmq_broker: Broker) -> None:
        assert reason(
            rabbitmq_broker, broker_url=rabbitmq_broker.url.replace("amqp:", "amqps:")
        ) in ("tls", "closed")


class TestSeveralAddresses:
    @pytest.fixture
    def proxies(self, rabbitmq_broker: Broker) -> Iterator[tuple[Proxy, Proxy]]:
        """Two nodes of one cluster, as clients see them."""
        port = urlsplit(rabbitmq_broker.url).port
        assert port
        with Proxy(port) as first, Proxy(port) as second:
            yield first, second

    def test_a_dead_first_one_and_the_reverse_while_it_runs(
        self,
        rabbitmq_broker: Broker,
        proxies: tuple[Proxy, Proxy],
        start_worker: Callable[..., Worker],
    ) -> None:
        first, second = proxies
        start_worker(rabbitmq_broker, "solo", "w", events=True)
        first.fault = Fault.REFUSE
        with local_exporter(
            rabbitmq_broker,
            broker_url=";".join(one.url(rabbitmq_broker.url) for one in proxies),
            timeout=4,
        ) as local:

            def works() -> bool:
                publish(rabbitmq_broker, "add", 1, 2)
                return sees_everything(local, "w@test", celery=0) and (
                    local.scrape().value("celery_exporter_event_stream_up") == 1
                )

            wait_for(works, interval=0.2)
            assert second.connections > 0
            second.fault, first.fault = Fault.REFUSE, Fault.NONE
            assert local.scrape(4.0).value("celery_broker_up") == 1
            wait_for(works, 30.0, interval=0.2)
            assert second.connections == 0
            assert first.connections > 0

    @pytest.mark.parametrize("fault", [Fault.SILENT, Fault.BLACKHOLE])
    def test_one_that_hangs_leaves_time_for_the_other(
        self, fault: Fault, rabbitmq_broker: Broker, proxies: tuple[Proxy, Proxy]
    ) -> None:
        proxies[0].fault = fault
        with local_exporter(
            rabbitmq_broker,
            broker_url=";".join(one.url(rabbitmq_broker.url) for one in proxies),
            timeout=3,
        ) as local:
            scrape = local.scrape(3.0)
            assert scrape.seconds < 4
            assert scrape.value("celery_broker_up") == 1

    def test_all_addresses_unreachable(self, rabbitmq_broker: Broker) -> None:
        url = f"amqp://u:p@{HOST}:{free_port()}//;amqp://u:p@{HOST}:{free_port()}//"
        assert reason(rabbitmq_broker, broker_url=url) == "refused"
