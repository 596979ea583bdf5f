"""kombu: its serializers, and the channels of its virtual transports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kombu.serialization import registry


def serializer_name(name: str) -> str:
    """Return the name of a serializer that is given by its name or its content type.

    kombu `serialization.registry`, `SerializerRegistry.type_to_name`.
    """
    return str(registry.type_to_name.get(name, name))


def decodes(content_type: str) -> bool:
    """Return whether a decoder of a content type has been registered.

    kombu `serialization.registry`, `SerializerRegistry._decoders`.
    """
    return content_type in registry._decoders


def keep_compressed(channel: Any) -> None:
    """Have messages of a channel keep a compressed body as it is.

    kombu `Channel.Message`: it inflates a body before its size can be checked.
    """
    base: Any = channel.Message

    class Message(base):  # type: ignore[misc]
        def __init__(self, payload: Any, *args: Any, **named: Any) -> None:
            headers = (
                payload.get("headers")
                if isinstance(payload, dict)
                else payload.properties.get("application_headers")
            )
            if headers:
                headers.pop("compression", None)
            super().__init__(payload, *args, **named)

    channel.Message = Message


def queue_size(channel: Any, queue: str) -> int:
    """Count the messages of a queue.

    kombu `virtual.Channel._size`: the public `queue_declare` creates a missing queue.
    """
    return int(channel._size(queue))


def bindings(channel: Any, exchange: str) -> Iterator[tuple[str, str, str]]:
    """Iterate over the routing keys, patterns and queues of an exchange.

    kombu `virtual.Channel.get_table`: there is no public way to list bindings.
    """
    yield from channel.get_table(exchange)


def delete_bound_queue(
    channel: Any, queue: str, exchange: str, routing_key: str, pattern: str
) -> None:
    """Delete a queue that another process has declared, and its binding.

    kombu `virtual.Channel._delete`: `queue_delete` only removes bindings of this connection.
    """
    channel._delete(queue, exchange, routing_key, pattern)


def replace_receive(channel: Any, receive: Callable[[Path, str], Any]) -> None:
    """Have a channel of the file system transport take messages with `receive`.

    kombu `filesystem.Channel._get`, `data_folder_in`: its own `_get` fails on a half-written file.
    """
    channel._get = lambda queue: receive(Path(channel.data_folder_in), queue)


def message_folder(channel: Any) -> Path:
    """Return the folder that a channel of the file system transport writes messages to.

    kombu `filesystem.Channel.data_folder_out`.
    """
    return Path(channel.data_folder_out)


def transport_option_names(transport: Any) -> frozenset[str]:
    """Return the transport options that a virtual transport of kombu reads.

    kombu `virtual.Channel.from_transport_options`: the documentation lists a part of them.
    """
    return frozenset(transport.Channel.from_transport_options)
