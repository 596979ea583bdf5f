"""The short form of two scenarios of the ledger; `make test-ledger` runs all in the long form."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.conftest import or_fail
from tests.support.servers import BrokerServer

from .scenarios import SCENARIOS, SHORT
from .servers import SERVERS

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def lasting_server(request: pytest.FixtureRequest) -> Iterator[BrokerServer]:
    with or_fail(SERVERS[request.param]) as server:
        yield server


@pytest.mark.parametrize(
    ("lasting_server", "name"),
    [
        ("redis", "torture"),
        ("redis", "visibility"),  # RabbitMQ has no visibility timeout
        ("rabbitmq", "torture"),
    ],
    indirect=["lasting_server"],
)
def test_the_exporter_equals_the_log(lasting_server: BrokerServer, name: str) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    with lasting_server.namespace() as broker:
        assert SCENARIOS[name](broker, SHORT, seed) == []
