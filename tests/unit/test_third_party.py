"""Every undocumented attribute of a library that the exporter uses exists in the installed one."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable
from typing import Any

import amqp
import amqp.channel
import amqp.method_framing
import amqp.transport
import celery.app.backends
import celery.app.defaults
import celery.app.utils
import celery.backends.base
import celery.bin.base
import celery.events.event
import kombu.serialization
import kombu.transport
import prometheus_client.exposition
import pytest
import redis
import uvicorn
import yaml
from celery import Celery
from kombu.transport import SQS, filesystem, virtual
from kombu.transport import redis as redis_transport
from starlette.applications import Starlette

from celery_vitals.third_party import celery_internals, kombu_redis, py_amqp, redis_py


def amqp_transport() -> Any:
    return amqp.transport.TCPTransport("localhost:5672")


def uvicorn_server() -> uvicorn.Server:
    config = uvicorn.Config(Starlette(), log_config=None)
    config.load()
    return uvicorn.Server(config)


def redis_store() -> Any:
    app = Celery("x", set_as_current=False)
    return celery_internals.open_result_store(app, "redis://localhost/0")


ATTRIBUTES: list[tuple[str, Callable[[], Any], str, str]] = [
    ("kombu", lambda: kombu.serialization.registry, "_decoders", "signed events and replies"),
    ("kombu", lambda: kombu.serialization.registry, "type_to_name", "commands to workers"),
    ("kombu", lambda: virtual.Channel, "_size", "queue lengths"),
    ("kombu", lambda: virtual.Channel, "get_table", "removal of orphaned event queues"),
    ("kombu", lambda: virtual.Channel, "_delete", "removal of orphaned event queues"),
    ("kombu", lambda: filesystem.Channel, "_get", "half-written messages are lost"),
    ("kombu", lambda: filesystem.Channel, "data_folder_in", "the file system as a broker"),
    ("kombu", lambda: filesystem.Channel, "data_folder_out", "whether the folder is writable"),
    ("kombu", lambda: redis_transport.Channel, "global_keyprefix", "queues on Redis"),
    ("kombu", lambda: redis_transport.Channel, "keyprefix_fanout", "remote control and events"),
    ("kombu", lambda: redis_transport.Channel, "fanout_patterns", "events on Redis"),
    ("kombu", lambda: redis_transport.Channel, "keyprefix_queue", "discovery of queues"),
    ("kombu", lambda: redis_transport.Channel, "sep", "discovery of queues"),
    (
        "kombu",
        lambda: virtual.Channel,
        "from_transport_options",
        "unknown transport options are ignored",
    ),
    ("kombu", lambda: redis_transport.Channel, "priority_steps", "queue lengths by priority"),
    ("kombu", lambda: redis_transport.Channel, "unacked_key", "unacknowledged messages"),
    ("kombu", lambda: redis_transport.Channel, "unacked_index_key", "age of unacknowledged ones"),
    ("kombu", lambda: redis_transport.Channel, "ack_emulation", "unacknowledged messages"),
    ("kombu", lambda: redis_transport.Channel, "socket_timeout", "bounded waits on Redis"),
    ("kombu", lambda: redis_transport.Channel, "pool", "all metrics of Redis"),
    ("kombu", lambda: redis_transport.Channel, "async_pool", "one idle connection per session"),
    ("kombu", lambda: redis_transport.Channel, "client", "one idle connection for events"),
    ("kombu", lambda: SQS.Channel, "_update_queue_cache", "discovery of SQS queues"),
    ("kombu", lambda: SQS.Channel, "canonical_queue_name", "lengths of SQS queues"),
    ("kombu", lambda: SQS.Channel, "predefined_queues", "lengths of SQS queues"),
    ("kombu", lambda: SQS.Channel, "queue_name_prefix", "discovery of SQS queues"),
    ("kombu", lambda: SQS.Channel, "sqs", "all metrics of SQS"),
    ("kombu", lambda: SQS.Channel, "_sqs", "SQS clients are not closed"),
    ("redis-py", lambda: redis.ConnectionPool, "make_connection", "events on Redis"),
    ("redis-py", lambda: redis.Redis(), "connection_pool", "closing of connections"),
    ("redis-py", lambda: redis.Connection(), "_sock", "events on Redis"),
    ("redis-py", redis.Connection, "can_read", "canaries on Redis"),
    ("redis-py", redis.Connection, "read_response", "canaries on Redis"),
    ("redis-py", redis.Connection, "send_command", "events on Redis"),
    ("kombu", lambda: redis_transport.Channel, "_connparams", "RESP2, limits of Redis"),
    ("kombu", lambda: virtual.Channel, "Message", "compressed bodies are not inflated"),
    ("kombu", lambda: virtual.Transport, "Channel", "RESP2, limits of Redis"),
    ("redis-py", lambda: redis.connection.DefaultParser, "read_from_socket", "limits of replies"),
    ("redis-py", lambda: redis.connection.DefaultParser, "read_response", "limits of replies"),
    ("py-amqp", lambda: amqp.method_framing, "frame_handler", "limits of messages"),
    ("celery", redis_store, "connparams", "RESP2, limits of Redis"),
    ("py-amqp", lambda: amqp.Connection, "_METHODS", "the reason of a blocked connection"),
    ("py-amqp", lambda: amqp.Connection(), "_callbacks", "the reason of a blocked connection"),
    ("py-amqp", lambda: amqp.transport.SSLTransport, "_wrap_socket_sni", "TLS option names"),
    ("py-amqp", amqp_transport, "sock", "events on RabbitMQ"),
    ("py-amqp", amqp.Connection, "frame_max", "events on RabbitMQ"),
    ("py-amqp", amqp.Connection, "heartbeat", "detection of a dead event stream"),
    ("py-amqp", amqp.Connection, "server_properties", "check of the management API's cluster"),
    ("py-amqp", lambda: amqp.Channel, "send_method", "queue lengths on RabbitMQ"),
    ("py-amqp", lambda: amqp.Channel, "wait", "queue lengths on RabbitMQ"),
    ("py-amqp", lambda: amqp.spec.Queue, "Declare", "queue lengths on RabbitMQ"),
    ("py-amqp", lambda: amqp.spec.Queue, "DeclareOk", "queue lengths on RabbitMQ"),
    ("celery", lambda: celery.app.defaults, "DEFAULTS", "settings of the result backend"),
    ("celery", lambda: celery.app.defaults, "SETTING_KEYS", "settings of the result backend"),
    ("celery", lambda: celery.app.defaults, "_OLD_SETTING_KEYS", "settings with old names"),
    ("celery", lambda: celery.app.backends, "by_url", "the result backend"),
    ("celery", lambda: celery.backends.base, "KeyValueStoreBackend", "the result backend"),
    ("celery", redis_store, "get_key_for_task", "the result backend"),
    ("celery", lambda: celery.events.event, "get_exchange", "events through kombu"),
    # Subclassed, set or imported where it is used, since no function of `third_party` can be
    # put between.
    ("celery", lambda: celery.app.backends, "BACKEND_ALIASES", "check of --result-backend"),
    ("celery", lambda: celery.app.utils, "find_app", "--app"),
    ("celery", lambda: celery.bin.base, "CLIContext", "celery -A proj vitals"),
    ("kombu", lambda: kombu.transport, "TRANSPORT_ALIASES", "check of --broker-url"),
    ("prometheus_client", lambda: prometheus_client.exposition, "choose_encoder", "/metrics"),
    ("PyYAML", lambda: yaml.SafeLoader, "get_single_node", "line numbers of errors"),
    ("PyYAML", lambda: yaml.SafeLoader, "construct_document", "the web configuration"),
    ("PyYAML", lambda: yaml.SafeLoader, "construct_object", "the configuration file"),
    ("starlette", lambda: Starlette().router, "redirect_slashes", "404 for a path with a slash"),
    ("uvicorn", uvicorn_server, "startup", "readiness"),
    ("uvicorn", lambda: uvicorn_server().server_state, "connections", "identity of clients"),
    ("uvicorn", uvicorn_server, "shutdown", "an orderly stop"),
    ("uvicorn", uvicorn_server, "capture_signals", "SIGTERM and SIGINT"),
    ("uvicorn", uvicorn_server, "should_exit", "SIGTERM and SIGINT"),
    ("uvicorn", uvicorn_server, "force_exit", "the second SIGTERM"),
    ("uvicorn", lambda: uvicorn_server().config, "ssl", "reload of the TLS certificate"),
    ("ssl", lambda: ssl.SSLContext, "sslobject_class", "client_allowed_sans"),
]


@pytest.mark.parametrize(
    ("library", "owner", "attribute", "breaks"),
    ATTRIBUTES,
    ids=[f"{library}-{attribute}" for library, _, attribute, _ in ATTRIBUTES],
)
def test_undocumented_attribute_exists(
    library: str, owner: Callable[[], Any], attribute: str, breaks: str
) -> None:
    assert hasattr(owner(), attribute), f"{library} has no {attribute}; without it: {breaks}"


@pytest.mark.parametrize(
    ("library", "function", "parameter"),
    [
        ("redis-py", redis.Connection.send_command, "kwargs"),
        ("py-amqp", amqp.Channel.send_method, "args"),
        ("py-amqp", amqp.Channel.wait, "returns_tuple"),
        ("py-amqp", amqp.Connection.__init__, "frame_handler"),
        ("celery", celery.app.backends.by_url, "loader"),
    ],
)
def test_undocumented_parameter_exists(library: str, function: Any, parameter: str) -> None:
    assert parameter in inspect.signature(function).parameters, library


def test_redis_sends_commands_without_a_health_check() -> None:
    sent: list[tuple[Any, bool]] = []
    connection = redis.Connection()
    connection.send_packed_command = lambda command, check_health=True: sent.append(
        (command, check_health)
    )
    redis_py.send_redis_command(connection, "PING")
    assert [health for _, health in sent] == [False]


def test_tls_options_are_found_in_both_libraries() -> None:
    assert {"ssl_cert_reqs", "ssl_ca_certs", "ssl_keyfile"} <= redis_py.redis_tls_options()
    assert {"cert_reqs", "ca_certs", "server_hostname"} <= py_amqp.amqp_tls_options()


def test_an_amqp_channel_calls_back_for_returned_messages() -> None:
    assert "self.events.get('basic_return')" in inspect.getsource(amqp.channel.Channel)


def test_kombu_names_the_keys_of_redis() -> None:
    keys = kombu_redis.redis_keys(redis_transport.Channel.__new__(redis_transport.Channel))
    assert keys.bindings_prefix == "_kombu.binding."
    assert (keys.unacked, keys.unacked_index) == ("unacked", "unacked_index")
    assert list(keys.priority_steps) == [0, 3, 6, 9]


def test_a_store_that_has_opened_no_client_is_left_alone() -> None:
    store = redis_store()
    assert celery_internals.opened_client(store) is None
    assert store.client is celery_internals.opened_client(store)
