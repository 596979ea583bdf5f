"""Encodes commands and decodes replies and events, in any serialization and without running code
from them."""

from __future__ import annotations

import codecs
import io
import json
import pickle
import pickletools
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
import yaml
from kombu.serialization import dumps, loads

from celery_vitals.third_party import kombu_internals

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_MESSAGE = 8 * 1024 * 1024
"""Bytes; a larger message is rejected."""
JSON = "application/json"
UTF8 = (None, "", "utf-8", "UTF-8", "us-ascii", "ascii", "binary")
"""Content encodings with which JSON is UTF-8."""
_MSGPACK = "application/x-msgpack"
_YAML = "application/x-yaml"
_PICKLE = "application/x-python-serialize"
_SIGNED = "application/data"
"""What Celery's serializer `auth` produces."""
_KOMBU_TYPE = "__type__"
"""The key of objects that kombu converts, to a date for example."""
_PLAIN_OPCODES = frozenset(
    "PROTO FRAME STOP MARK MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET "  # noqa: SIM905
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_DICT DICT SETITEM SETITEMS "
    "EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "EMPTY_SET FROZENSET ADDITEMS GLOBAL STACK_GLOBAL REDUCE".split()
)
"""What a pickle of plain data consists of; the last three make the one class that is allowed."""
_KEEP_TOP = frozenset("PROTO FRAME PUT BINPUT LONG_BINPUT MEMOIZE".split())  # noqa: SIM905
"""The opcodes that leave the stack as it is."""
_MAX_SHARED = 20
"""References of a pickle to its own tuples: each may double the time that a hash takes."""
_MAX_NUMBER = 100
"""Characters of an integer in YAML: on base 60 PyYAML spends the square of them."""
_CHARSETS = frozenset(
    "utf-8 utf-8-sig utf-16 utf-16-le utf-16-be utf-32 utf-32-le utf-32-be ascii iso8859-1 cp1252".split()  # noqa: E501, SIM905
)
"""By the names of Python's codecs, some others of which take time without limit."""
_MAX_PARTS = 10_000
"""Events of one message; a worker sends 24 at most."""


class RejectedMessage(Exception):
    """A message that cannot be used; the text is the reason that it is counted under."""


class _PickledObjectError(pickle.UnpicklingError):
    """A pickle that contains an object of a class, or calls a function."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, text and numbers; refuses classes and functions."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the one class that workers do send: the `total` of `stats`."""
        if (module, name) == ("collections", "Counter"):
            return Counter
        raise _PickledObjectError(f"{module}.{name} in a message")


_MAX_DEPTH = 50
"""Levels of a YAML document; libyaml crashes at some ten thousand."""


class _PlainLoader(_Loader):
    """Reads YAML without merge keys, which multiply what they merge."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave the mapping as it is: a merge key in it is then an error."""

    def construct_short_int(self, node: yaml.ScalarNode) -> int:
        """Return an integer of a usual length."""
        if len(node.value) > _MAX_NUMBER:
            raise ValueError("an integer in YAML with too many digits")
        return int(self.construct_yaml_int(node))


_PlainLoader.add_constructor("tag:yaml.org,2002:int", _PlainLoader.construct_short_int)


def encode(content: Any, serializer: str) -> tuple[str, str, bytes]:
    """Return the content type, the content encoding and the bytes of a message.

    Raises the encoder's error, and kombu's SerializerNotInstalled for an unknown name.
    """
    if serializer == "msgpack":  # kombu requires another package for it
        return _MSGPACK, "binary", msgspec.msgpack.encode(content)
    content_type, encoding, body = dumps(content, serializer=serializer)
    return content_type, encoding, body.encode() if isinstance(body, str) else bytes(body)


def decode(body: bytes | str, content_type: str | None, encoding: str | None) -> Any:
    """Return the content of a message.  Raises the decoder's error, or RejectedMessage."""
    if content_type == JSON:
        return _decode_json(body, encoding)
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if content_type == _MSGPACK:
        return msgspec.msgpack.decode(data, strict=False)
    if content_type == _YAML:
        return _decode_yaml(data)
    if content_type == _PICKLE:
        return _unpickle(body.encode("latin-1") if isinstance(body, str) else body)
    if content_type == _SIGNED and kombu_internals.decodes(content_type):
        # The app has configured its certificates: what is not signed by one of them is an error.
        return loads(body, content_type, encoding)
    # Serializers of an application's own are dialects of JSON, or unsafe to decode.
    with suppress(ValueError, RecursionError):
        content = json.loads(data)
        if isinstance(content, (dict, list)):
            return content
    raise RejectedMessage("content_type")


def to_json(body: bytes | str, content_type: str | None, encoding: str | None) -> bytes:
    """Return an event message of any content type as JSON, with its plain values only.

    Nested values, which are not used, could refer to each other and be endless as JSON.
    Raises RejectedMessage.
    """
    try:
        content = decode(body, content_type, encoding)
    except _PickledObjectError:
        raise RejectedMessage("pickled_objects") from None
    except RejectedMessage:
        raise
    except Exception:  # noqa: BLE001 - decoders raise errors of many types
        raise RejectedMessage("undecodable") from None
    parts = content if isinstance(content, (list, tuple)) else [content]
    if len(parts) > _MAX_PARTS:
        raise RejectedMessage("too_large")
    plain = [
        {name: value for name, value in part.items() if _is_plain(name, value)}
        if isinstance(part, dict)
        else None
        for part in parts
    ]
    if sum(_length(value) for part in plain if part for value in part.values()) > MAX_MESSAGE:
        raise RejectedMessage("too_large")
    try:
        return json.dumps(plain).encode()
    except ValueError:  # an integer of thousands of digits
        raise RejectedMessage("undecodable") from None


def _decode_json(body: bytes | str, encoding: str | None) -> Any:
    if encoding not in UTF8 and isinstance(body, bytes):
        codec = codecs.lookup(encoding or "utf-8")
        if codec.name not in _CHARSETS:
            raise LookupError(f"JSON in {codec.name}")
        body = body.decode(codec.name)
    text = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    if _KOMBU_TYPE.encode() not in text:
        # A tenth of the time that kombu takes, which calls a function for each object.
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return msgspec.json.decode(text)
    return loads(body, JSON, "utf-8", accept={JSON})


def _decode_yaml(data: bytes) -> Any:
    depth = 0
    for event in yaml.parse(data, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            raise ValueError("YAML with too many levels")
    return yaml.load(data, _PlainLoader)  # noqa: S506 - a SafeLoader


def _unpickle(data: bytes) -> Any:
    """Return plain data, after a look at each step: some exhaust memory or time."""
    tuples: set[int] = set()
    """What the memo has of them.  Without POP and DUP the last one built is on top of the stack."""
    on_top, stored, shared = False, 0, 0
    for step, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        name = opcode.name
        if name not in _PLAIN_OPCODES:
            raise _PickledObjectError(f"{name} in a message")
        if name == "MEMOIZE" or name.endswith("PUT"):
            index = stored if argument is None else int(argument)
            if index > step:
                raise ValueError("a memo out of order")
            stored += 1
            if on_top:
                tuples.add(index)
        elif name not in _KEEP_TOP:
            again = name.endswith("GET") and int(argument or 0) in tuples
            on_top, shared = again or name.startswith(("TUPLE", "FROZENSET")), shared + again
            if shared > _MAX_SHARED:
                raise ValueError("a pickle with too many references to tuples")
    return _PlainUnpickler(io.BytesIO(data)).load()


def _is_plain(name: object, value: object) -> bool:
    return isinstance(name, str) and (value is None or isinstance(value, (str, int, float)))


def _length(value: object) -> int:
    return len(value) if isinstance(value, str) else 0
