"""Redis behind TLS, ACLs, Sentinels and a socket, with real workers on it: everything is seen, or the reason is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.exporter import Exporter
from tests.live.looking import Look, looking
from tests.servers import (
    HOST,
    Broker,
    Certificates,
    Fault,
    Proxy,
    Publisher,
    RedisServer,
    Sentinels,
    Worker,
    free_port,
    project_environment,
    publish,
    wait_for,
)

EVERYTHING = {"broker", "backend", "workers", "queues", "tasks"}


def sees_everything(look: Look, worker: str, **lengths: int) -> bool:
    """Whether a scrape shows broker, backend, the worker, these queues, and that events come."""
    scrape = look.scrape()
    assert scrape.value("celery_broker_up") == 1
    assert scrape.value("celery_result_backend_up") == 1
    assert scrape.by("worker", "celery_worker_up") == {worker: 1}
    shown = scrape.by("queue", "celery_queue_length")
    assert {name: shown.get(name) for name in lengths} == lengths
    assert {name for name, ok in scrape.by("collector", "celery_scrape_collector_success").items() if ok} == EVERYTHING
    return sum(scrape.by("task", "celery_task_succeeded_total").values()) > 0


def broker_reasons(look: Look) -> set[str]:
    """Why the broker's collector has failed so far."""
    failures = look.scrape(2.0, ("broker",)).series("celery_probe_failures_total")
    return {dict(labels)["reason"] for labels in failures if dict(labels)["collector"] == "broker"}


def words(option: str, values: Mapping[str, Any]) -> list[str]:
    """A mapping as a repeated option of the command line."""
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


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
            yield Broker(broker.kind, broker.url, url, broker.server, space=broker.space)

    def test_with_a_client_certificate_and_an_authority(
        self, broker: Broker, certificates: Certificates, start_worker: Callable[..., Worker]
    ) -> None:
        options = certificates.redis_options()
        conf = {"broker_use_ssl": options | {"ssl_cert_reqs": 2}}
        start_worker(broker, "solo", "w", events=True, conf=conf)
        publish(broker, "add", 1, 2, queue="orphan", count=3, conf=conf)
        with looking(broker, broker_ssl_options=options) as look, Publisher(broker, conf) as publisher:
            wait_for(lambda: look.scrape().value("celery_exporter_event_stream_up") == 1)
            publisher.send("add", 1, 2)
            wait_for(lambda: sees_everything(look, "w@test", celery=0, orphan=3))
            spots = look.scrape().by("subject", "celery_exporter_blind_spot")
            assert not {"broker_certificate", "result_backend_certificate"} & spots.keys()

    @pytest.mark.parametrize("way", ["options", "query"])
    def test_from_the_command_line(self, way: str, broker: Broker, certificates: Certificates) -> None:
        options = words("--broker-ssl-option", certificates.redis_options()) if way == "options" else []
        url = broker.url if way == "options" else broker.backend_url
        with Exporter("--broker-url", url, "--result-backend", broker.backend_url, *options) as exporter:
            scrape = exporter.scrape(timeout=5)
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1

    def test_everything_is_taken_from_the_app(self, broker: Broker, certificates: Certificates) -> None:
        conf = {"broker_use_ssl": certificates.redis_options() | {"ssl_cert_reqs": 2}}
        with Exporter("--app", "project.app:app", env=project_environment(broker, conf)) as exporter:
            scrape = exporter.scrape(timeout=5)
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1
            assert "broker_certificate" not in scrape.by("subject", "celery_exporter_blind_spot")

    def test_a_handshake_that_hangs_is_given_up_in_time(self, broker: Broker, certificates: Certificates) -> None:
        with Proxy(broker.server.port) as proxy:
            proxy.fault = Fault.MUTE
            options = certificates.redis_options()
            with looking(
                broker, broker_url=proxy.url(broker.url), result_backend=None, broker_ssl_options=options, timeout=2
            ) as look:
                scrapes = [look.scrape(2.0) for _ in range(3)]
                assert max(scrape.seconds for scrape in scrapes) < 3
                assert {scrape.value("celery_broker_up") for scrape in scrapes} == {0}
                assert broker_reasons(look) <= {"timeout", "stuck"}
                proxy.fault = Fault.NONE
                wait_for(lambda: look.scrape().value("celery_broker_up") == 1)

    def test_a_certificate_that_is_not_verified_is_said(self, broker: Broker, certificates: Certificates) -> None:
        options = certificates.redis_options() | {"ssl_cert_reqs": "none", "ssl_ca_certs": str(certificates.stranger)}
        backend = f"{broker.url}?{in_url(options)}"
        with looking(broker, broker_ssl_options=options, result_backend=backend) as look:
            scrape = look.scrape()
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1
            spots = scrape.by("subject", "celery_exporter_blind_spot")
            assert {"broker_certificate", "result_backend_certificate"} <= spots.keys()
            notes = {note.subject: note for note in look.collector.report().notes}
            assert "not verified" in notes["broker_certificate"].text
            assert "ssl_cert_reqs" in notes["broker_certificate"].setting

    def test_without_options_it_does_as_kombu_does_and_says_so(self, certificates: Certificates) -> None:
        with RedisServer(tls=certificates, extra_args=["--tls-auth-clients", "no"]) as server:
            broker = Broker("redis", server.url, "", server)
            with looking(broker, result_backend=None) as look:
                scrape = look.scrape()
                assert scrape.value("celery_broker_up") == 1
                assert "broker_certificate" in scrape.by("subject", "celery_exporter_blind_spot")

    def test_with_the_wrong_authority(self, broker: Broker, certificates: Certificates) -> None:
        wrong = certificates.redis_options() | {"ssl_ca_certs": str(certificates.stranger)}
        backend = f"{broker.url}?{in_url(wrong)}"
        with looking(broker, broker_ssl_options=wrong, result_backend=backend) as look:
            scrape = look.scrape()
            assert scrape.value("celery_broker_up") == 0
            assert scrape.value("celery_result_backend_up") == 0
            failures = scrape.series("celery_probe_failures_total")
            assert {dict(labels)["reason"] for labels in failures} == {"tls"}

    def test_without_the_client_certificate(self, broker: Broker, certificates: Certificates) -> None:
        with looking(
            broker, broker_ssl_options={"ssl_ca_certs": str(certificates.authority)}, result_backend=None
        ) as look:
            assert look.scrape().value("celery_broker_up") == 0
            assert broker_reasons(look) == {"tls"}

    def test_where_the_server_speaks_no_tls(self, redis_broker: Broker) -> None:
        url = redis_broker.url.replace("redis:", "rediss:")
        with looking(redis_broker, broker_url=url, timeout=1) as look:
            assert look.scrape(2.0).value("celery_broker_up") == 0
            assert broker_reasons(look) <= {"tls", "closed", "timeout"}  # Redis waits for the rest of such a command

    def test_where_only_the_server_speaks_tls(self, broker: Broker) -> None:
        with looking(broker, broker_url=broker.url.replace("rediss:", "redis:"), result_backend=None) as look:
            assert look.scrape().value("celery_broker_up") == 0
            assert broker_reasons(look) <= {"protocol", "closed"}


class TestAcl:
    @pytest.fixture
    def user(self, redis_broker: Broker, redis_server: RedisServer) -> Iterator[Callable[..., Broker]]:
        """Makes a user with these rules; the broker as that user sees it."""

        def make(*rules: str) -> Broker:
            with redis_server.client() as client:
                client.execute_command("ACL", "SETUSER", "vitals", "reset", "on", ">s3cr@t", "~*", "&*", *rules)
            url = redis_broker.url.replace("redis://", "redis://vitals:s3cr%40t@")
            return Broker("redis", url, url, redis_server, space=redis_broker.space)

        yield make
        with redis_server.client() as client:
            client.execute_command("ACL", "DELUSER", "vitals")

    def test_a_user_and_password_in_the_url(
        self, redis_broker: Broker, user: Callable[..., Broker], start_worker: Callable[..., Worker]
    ) -> None:
        broker = user("+@all")
        start_worker(broker, "solo", "w", events=True)
        with looking(broker) as look:
            wait_for(lambda: look.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(redis_broker, "add", 1, 2)
            wait_for(lambda: sees_everything(look, "w@test", celery=0))

    @pytest.mark.parametrize("refused", ["client", "client|setname"])
    def test_one_who_may_not_give_itself_a_name_goes_on_without(
        self, refused: str, redis_broker: Broker, user: Callable[..., Broker], start_worker: Callable[..., Worker]
    ) -> None:
        start_worker(redis_broker, "solo", "w", events=True)
        with looking(user("+@all", f"-{refused}")) as look:
            wait_for(lambda: look.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(redis_broker, "add", 1, 2)
            wait_for(lambda: sees_everything(look, "w@test", celery=0))
            failures = look.scrape().series("celery_probe_failures_total")
            assert failures == {}

    def test_a_server_that_has_no_such_command(self, start_worker: Callable[..., Worker]) -> None:
        with RedisServer(extra_args=["--rename-command", "CLIENT", ""]) as server, server.namespace() as broker:
            start_worker(broker, "solo", "w", events=True)
            with looking(broker) as look:
                wait_for(lambda: look.scrape().value("celery_exporter_event_stream_up") == 1)
                publish(broker, "add", 1, 2)
                wait_for(lambda: sees_everything(look, "w@test", celery=0))
                assert look.scrape().series("celery_probe_failures_total") == {}

    def test_the_commands_that_the_manual_names_suffice(
        self, redis_broker: Broker, user: Callable[..., Broker], start_worker: Callable[..., Worker]
    ) -> None:
        from celery_vitals.brokers_page import REDIS_ACL

        start_worker(redis_broker, "solo", "w", events=True)
        with looking(user(*REDIS_ACL.split())) as look:
            wait_for(lambda: look.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(redis_broker, "late", 3)
            publish(redis_broker, "add", 1, 2, queue="orphan", count=3)

            def held() -> bool:
                scrape = look.scrape()
                return scrape.value("celery_queue_unacked_messages", queue="celery") == 1

            wait_for(held)
            wait_for(lambda: sees_everything(look, "w@test", celery=0, orphan=3))
            assert look.scrape().series("celery_probe_failures_total") == {}

    def test_one_who_may_do_nothing(self, user: Callable[..., Broker]) -> None:
        with looking(user("-@all")) as look:
            assert look.scrape().value("celery_broker_up") == 0
            assert broker_reasons(look) == {"permission"}

    def test_a_wrong_password(self, user: Callable[..., Broker]) -> None:
        broker = user("+@all")
        with looking(broker, broker_url=broker.url.replace("s3cr%40t", "wrong")) as look:
            assert look.scrape().value("celery_broker_up") == 0
            assert broker_reasons(look) == {"authentication"}


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with Sentinels() as sentinels:
        yield sentinels


def looking_by(broker: Broker, options: Mapping[str, Any]) -> AbstractContextManager[Look]:
    """Look at broker and result backend through Sentinels."""
    return looking(broker, broker_transport_options=options, result_backend_transport_options=options)


class TestSentinel:
    def test_a_master_that_nobody_knows(self, sentinels: Sentinels) -> None:
        with looking_by(sentinels.broker(), {"master_name": "nosuch"}) as look:
            scrape = look.scrape()
            assert scrape.value("celery_broker_up") == 0
            assert scrape.value("celery_result_backend_up") == 0
            failures = scrape.series("celery_probe_failures_total")
            assert {dict(labels)["reason"] for labels in failures} == {"unavailable"}

    def test_a_sentinel_that_is_gone_costs_the_others_nothing(self, sentinels: Sentinels) -> None:
        url = f"sentinel://{HOST}:{free_port()};{sentinels.broker().url}"
        broker = Broker("redis", url, url, sentinels.master)
        with looking_by(broker, sentinels.options) as look:
            scrape = look.scrape(3.0)
            assert scrape.value("celery_broker_up") == 1
            assert scrape.value("celery_result_backend_up") == 1

    def test_a_failover_is_survived_by_the_same_process(
        self, sentinels: Sentinels, start_worker: Callable[..., Worker]
    ) -> None:
        broker, options = sentinels.broker(), sentinels.options
        conf = {"broker_transport_options": options, "result_backend_transport_options": options}
        start_worker(broker, "solo", "w", events=True, conf=conf)
        master = words("--broker-transport-option", options)
        master += words("--result-backend-transport-option", options)
        with Exporter.of(broker, *master) as exporter:

            def healthy() -> bool:
                scrape = exporter.scrape(timeout=5)
                success = scrape.by("collector", "celery_scrape_collector_success")
                assert scrape.value("celery_broker_up") == 1
                assert scrape.value("celery_result_backend_up") == 1
                return success == dict.fromkeys(EVERYTHING, 1) and scrape.by("worker", "celery_worker_replied") == {
                    "w@test": 1
                }

            def succeeded() -> float:
                return sum(exporter.scrape(timeout=5).by("task", "celery_task_succeeded_total").values())

            wait_for(healthy)
            publish(broker, "add", 1, 2, conf=conf)
            wait_for(lambda: succeeded() == 1)
            pid = exporter.pid

            sentinels.master.kill()
            gone = exporter.scrape(timeout=3)
            assert gone.status == 200
            assert gone.seconds < 4
            assert gone.value("celery_broker_up") == 0

            wait_for(healthy, 60.0, what="all well on the new master")
            publish(broker, "add", 1, 2, conf=conf)
            wait_for(lambda: succeeded() == 2)
            assert exporter.pid == pid
            assert exporter.child.alive


def test_through_a_socket_of_the_file_system(tmp_path: Path, start_worker: Callable[..., Worker]) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(extra_args=["--unixsocket", str(path)]) as server:
        broker = Broker(
            "redis", f"redis+socket://{path}?virtual_host=3", f"redis+socket://{path}?virtual_host=3", server
        )
        start_worker(broker, "solo", "w", events=True)
        publish(broker, "add", 1, 2, queue="orphan")
        with looking(broker) as look:
            wait_for(lambda: look.scrape().value("celery_exporter_event_stream_up") == 1)
            publish(broker, "add", 1, 2)
            wait_for(lambda: sees_everything(look, "w@test", celery=0, orphan=1))
        path.unlink()
        with looking(broker) as look:
            assert look.scrape().value("celery_broker_up") == 0
            assert broker_reasons(look) == {"not_found"}


def test_with_a_prefix_before_all_keys(
    redis_broker: Broker, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    options = {"global_keyprefix": "team:"}
    conf = {"broker_transport_options": options, "result_backend_transport_options": options}
    start_worker(redis_broker, "solo", "w", events=True, conf=conf)
    publish(redis_broker, "add", 1, 2, queue="orphan", count=2, conf=conf)
    with (
        looking(redis_broker, broker_transport_options=options, result_backend_transport_options=options) as look,
        redis_server.client(int(redis_broker.space)) as client,
    ):
        wait_for(lambda: look.scrape().value("celery_exporter_event_stream_up") == 1)
        publish(redis_broker, "add", 1, 2, conf=conf)
        wait_for(lambda: sees_everything(look, "w@test", celery=0, orphan=2))
        assert [key for key in client.keys("*") if not key.startswith(b"team:")] == []
    # Another prefix is another cluster: nobody is there.
    with looking(redis_broker, broker_transport_options={"global_keyprefix": "other:"}) as look:
        scrape = look.scrape()
        assert scrape.value("celery_broker_up") == 1
        assert scrape.series("celery_worker_up") == {}
        assert scrape.series("celery_queue_length") == {}
