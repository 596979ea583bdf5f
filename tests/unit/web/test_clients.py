"""A client is known by its connection, and by its host where connections are closed."""

from __future__ import annotations

from celery_vitals.web.clients import Clients

PROMETHEUS, OTHER = "10.0.0.1", "10.0.0.2"


def clients_with(*opened: tuple[str, int]) -> Clients:
    clients = Clients()
    clients.open_connections = lambda: opened
    return clients


def test_a_connection_identifies_a_client() -> None:
    clients = clients_with((PROMETHEUS, 1), (PROMETHEUS, 2))
    first, second = clients.identify((PROMETHEUS, 1)), clients.identify((PROMETHEUS, 2))
    assert first != second
    assert [clients.identify((PROMETHEUS, port)) for port in (1, 2, 1)] == [first, second, first]


def test_a_new_connection_takes_the_place_of_a_closed_one_of_its_host() -> None:
    clients = clients_with((PROMETHEUS, 2), (OTHER, 3))
    closed = clients.identify((PROMETHEUS, 1))
    opened = clients.identify((PROMETHEUS, 2))
    other = clients.identify((OTHER, 3))
    assert opened == closed
    assert other != closed
    assert clients.identify((PROMETHEUS, 4)) not in (opened, other)


def test_two_servers_that_close_their_connections_keep_their_places() -> None:
    opened = [(PROMETHEUS, 1), (PROMETHEUS, 2)]
    clients = Clients()
    clients.open_connections = lambda: opened
    first, second = map(clients.identify, list(opened))
    opened.clear()
    seen = [clients.identify((PROMETHEUS, port)) for port in range(3, 9)]
    assert seen == [first, second] * 3


def test_the_number_of_clients_is_bounded() -> None:
    opened = [(f"10.0.{number // 200}.{number % 200}", number) for number in range(2000)]
    clients = clients_with(*opened)
    assert len(set(map(clients.identify, opened))) == 2000
    assert len(clients._clients) <= 256
