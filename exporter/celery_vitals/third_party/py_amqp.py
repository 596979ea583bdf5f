"""py-amqp: the connection, its frames, and methods without their answers."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, cast

from amqp import spec
from amqp.method_framing import frame_handler
from amqp.transport import SSLTransport

from celery_vitals.third_party.signatures import parameters

_HEADER_FRAME, _BODY_FRAME = 2, 3
_BODY_SIZE = Struct(">Q").unpack_from


def amqp_tls_options() -> set[str]:
    """Return the names of py-amqp's TLS options; none when they cannot be determined.

    py-amqp `SSLTransport._wrap_socket_sni`, whose parameters they are: no list is documented.
    """
    function = getattr(SSLTransport, "_wrap_socket_sni", None)
    return parameters(function) - {"self", "sock", "kwargs"}


def amqp_socket(connection: Any) -> Any:
    """Return the socket of a connection.

    py-amqp `Connection.transport.sock`: its frame reader costs three times as much per event.
    """
    return connection.transport.sock


def bounded_frame_handler(limit: int) -> Callable[..., Any]:
    """Return a handler of frames with which a body of more than `limit` bytes arrives empty.

    py-amqp `method_framing.frame_handler`, `Connection(frame_handler=)`: it collects a body of any
    size.  The frames of a body left out count as events, so that each wait for one has its timeout.
    """

    def make(connection: Any, callback: Any) -> Callable[[tuple[int, int, bytes]], Any]:
        handle = frame_handler(connection, callback)
        left_out: dict[int, int] = {}

        def on_frame(frame: tuple[int, int, bytes]) -> Any:
            kind, channel, content = frame
            if kind == _HEADER_FRAME and (size := _BODY_SIZE(content, 4)[0]) > limit:
                left_out[channel] = size
                return handle((kind, channel, b"%b%b%b" % (content[:4], bytes(8), content[12:])))
            if kind != _BODY_FRAME or channel not in left_out:
                return handle(frame)
            left_out[channel] -= len(content)
            if left_out[channel] <= 0:
                del left_out[channel]
            return True

        return on_frame

    return make


def amqp_limits(connection: Any) -> tuple[int, float]:
    """Return the negotiated size of a frame (bytes) and heartbeat interval (seconds; 0: none).

    py-amqp `Connection.frame_max`, `heartbeat`.
    """
    return int(connection.frame_max), float(connection.heartbeat or 0)


def amqp_cluster_name(connection: Any) -> str:
    """Return the name that the broker gives its cluster; empty when it sends none.

    py-amqp `Connection.server_properties`.
    """
    return str(connection.server_properties.get("cluster_name") or "")


def amqp_server_version(connection: Any) -> str:
    """Return the version of the broker; empty when it sends none.

    py-amqp `Connection.server_properties`.
    """
    return str(connection.server_properties.get("version") or "")


_BLOCKED = (10, 60)
"""connection.blocked, by class and method."""


def on_blocked(connection: Any, callback: Callable[[str], Any]) -> None:
    """Call `callback` with the broker's reason when it blocks the connection.

    py-amqp `Connection._METHODS`, `_callbacks`: the documented `on_blocked` gets no reason.
    """
    blocked = spec.method(_BLOCKED, "s")
    connection._METHODS = {**connection._METHODS, blocked.method_sig: blocked}
    connection._callbacks[blocked.method_sig] = callback


def on_returned_message(channel: Any, callback: Callable[..., None]) -> None:
    """Call `callback` for every message that the broker returns as unroutable.

    py-amqp `Channel.events`: the documented way raises an error at another place.
    """
    channel.events["basic_return"].add(callback)


def send_passive_declare(channel: Any, queue: str) -> None:
    """Send a passive declare without waiting for its answer.

    py-amqp `Channel.send_method`: `queue_declare` waits, one round trip per queue.
    """
    channel.send_method(
        spec.Queue.Declare, "BsbbbbbF", (0, queue, True, False, False, False, False, None)
    )


def receive_declared(channel: Any) -> tuple[str, int, int]:
    """Wait for the next answer to a declare: queue, messages ready, consumers.

    py-amqp `Channel.wait(returns_tuple=)`.
    """
    return cast("tuple[str, int, int]", channel.wait(spec.Queue.DeclareOk, returns_tuple=True))
