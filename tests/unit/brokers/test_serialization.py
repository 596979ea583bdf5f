"""Messages are decoded as kombu decodes them, whichever decoder is used, and run no code."""

from __future__ import annotations

import datetime
import json
import math
import pickle
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import DecodeError
from kombu.serialization import dumps as dumps_of_kombu
from kombu.serialization import loads
from kombu.utils.json import dumps

from celery_vitals.brokers.serialization import RejectedMessage, decode, encode, to_json

JSON = "application/json"
PICKLE = "application/x-python-serialize"
MSGPACK = "application/x-msgpack"
YAML = "application/x-yaml"
EVENT = {
    "type": "task-failed",
    "hostname": "w@h",
    "uuid": "\u00fc",
    "timestamp": 1.5,
    "clock": 2**40,
    "exception": "ValueError('\u20ac \\n')",
    "eta": None,
    "expired": True,
}
NESTED = {**EVENT, "loadavg": [0.1, 0.2], "args": {"a": 1}}
content = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(content, st.booleans())
def test_json_is_decoded_as_by_kombu(value: Any, as_text: bool) -> None:
    text = dumps(value)
    body = text if as_text else text.encode()
    assert repr(decode(body, JSON, "utf-8")) == repr(loads(body, JSON, "utf-8"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": Infinity}', {"a": math.inf}),
        ('{"a": 1e400}', {"a": math.inf}),
        ('{"a": "\\ud800"}', {"a": "\ud800"}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        (json.dumps({"a": 2**200}), {"a": 2**200}),
    ],
)
def test_json_that_only_kombu_decodes(text: str, value: Any) -> None:
    assert decode(text.encode(), JSON, "utf-8") == value


def test_objects_of_kombu_are_converted_by_kombu() -> None:
    body = dumps({"at": datetime.datetime(2026, 1, 2)}).encode()
    assert decode(body, JSON, "utf-8") == loads(body, JSON, "utf-8")


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[1] 2", b"[" * 100_000])
def test_invalid_json_raises(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError, DecodeError)):
        decode(body, JSON, "utf-8")


def test_pickle_is_decoded_without_running_code() -> None:
    body = pickle.dumps({"total": Counter(add=3)})
    assert decode(body, PICKLE, "binary") == {"total": {"add": 3}}
    with pytest.raises(pickle.UnpicklingError):
        decode(pickle.dumps(datetime.date(2026, 1, 2)), PICKLE, "binary")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_of_every_protocol_is_decoded(protocol: int) -> None:
    content = [{"a": 1, "b": [1.5, True, None, "\u00fc", (1, 2)], "c": -(2**70)}] * 2
    assert decode(pickle.dumps(content, protocol), PICKLE, "binary") == content


class Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


@pytest.mark.parametrize(
    "body",
    [
        pickle.dumps(Evil()),
        pickle.dumps({"type": "task-sent", "hostname": Evil()}),
        pickle.dumps(datetime.datetime(2026, 1, 2)),
        pickle.dumps(math.floor),
        b"cos\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",
        b"Pid\n.",
        b"\x82\x01.",
    ],
)
def test_pickled_objects_are_rejected_and_run_nothing(
    body: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RejectedMessage, match="pickled_objects"):
        to_json(body, PICKLE, "binary")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("serializer", ["json", "yaml", "msgpack", "pickle"])
@pytest.mark.parametrize("content", [NESTED, [NESTED, EVENT]], ids=["one", "several"])
def test_events_of_every_serializer_become_json(serializer: str, content: Any) -> None:
    kind, encoding, body = dumps_of_kombu(content, serializer=serializer)
    raw = body.encode() if isinstance(body, str) else body
    expected = [EVENT] * (len(content) if isinstance(content, list) else 1)
    assert json.loads(to_json(raw, kind, encoding)) == expected
    # As text where a virtual transport stores it so, and by the exporter's own encoder.
    if isinstance(body, str):
        assert json.loads(to_json(body, kind, encoding)) == expected
    assert json.loads(to_json(*reversed_of(encode(content, serializer)))) == expected


def reversed_of(encoded: tuple[str, str, bytes]) -> tuple[bytes, str, str]:
    kind, encoding, body = encoded
    return body, kind, encoding


def test_a_serializer_of_the_application_that_writes_json() -> None:
    body = json.dumps(EVENT).encode()
    assert json.loads(to_json(body, "application/x-own", "utf-8")) == [EVENT]
    assert json.loads(to_json(body, None, None)) == [EVENT]


def test_json_in_another_charset() -> None:
    body = json.dumps(EVENT, ensure_ascii=False).encode("utf-16")
    assert json.loads(to_json(body, JSON, "utf-16")) == [EVENT]


def shared_tuples(build: bytes, store: bytes) -> bytes:
    """A pickle of tuples of the one before, twice each: a hash visits 2**60 elements."""
    body = b"\x80\x04}(K\x01\x85q\x00"
    for number in range(60):
        body += b"h%c" % number * 2 + build + store.replace(b"#", b"%c" % (number + 1))
    return body + b"K\x01u."


@pytest.mark.parametrize(
    ("body", "kind", "charset"),
    [
        (shared_tuples(b"\x86", b"q#"), PICKLE, "binary"),
        (shared_tuples(b"\x86", b"\x94"), PICKLE, "binary"),
        (shared_tuples(b"\x86\x95" + bytes(8), b"q#"), PICKLE, "binary"),
        (shared_tuples(b"\x86N0", b"q#"), PICKLE, "binary"),
        (b"{a: 1" + b":1" * 400_000 + b"}", YAML, "utf-8"),
        (b"{a: !!int '1" + b":1" * 400_000 + b"'}", YAML, "utf-8"),
        (b"{}-" + b"a" * 1_000_000, JSON, "punycode"),
        (b"{}-" + b"a" * 1_000_000, JSON, "PUNYCODE"),
        (b"xn--" + b"a" * 1_000_000, JSON, "idna"),
    ],
    ids=["memo", "memoize", "frame", "pop", "base-60", "tagged", "punycode", "case", "idna"],
)
def test_no_message_takes_more_than_linear_time(body: bytes, kind: str, charset: str) -> None:
    code = (
        "import sys; from celery_vitals.brokers.serialization import *\n"
        "try: to_json(sys.stdin.buffer.read(), *sys.argv[1:])\n"
        "except RejectedMessage as error: print(error)"
    )
    arguments = [sys.executable, "-c", code, kind, charset]
    shown = subprocess.run(arguments, input=body, capture_output=True, timeout=20, check=True)
    assert shown.stdout.decode().strip() in ("undecodable", "pickled_objects")


def test_a_tuple_that_a_pickle_refers_to_again_is_decoded() -> None:
    one = (1, 2)
    value = {"args": one, "again": [one, one], "name": "x", "names": ["x"] * 100}
    assert decode(pickle.dumps(value), PICKLE, "binary") == value


ALIASES = "a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefg"))
MERGES = "a: &a {x: 1}\n" + "".join(
    f"k{n}: &k{n} {{<<: [*{'a' if n == 0 else f'k{n - 1}'}{', *a' * 9}]}}\n" for n in range(40)
)


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"", MSGPACK, "undecodable"),
        (b"\xc1", MSGPACK, "undecodable"),
        (b"\x91" * 100_000, MSGPACK, "undecodable"),
        (b"", PICKLE, "undecodable"),
        (b"\x80\x04r\xff\xff\xff\x7f.", PICKLE, "undecodable"),
        (b"\x80\x04Nr\xff\xff\xff\x7f.", PICKLE, "undecodable"),
        (b"\x80\x04Nr\xff\xff\x0f\x00.", PICKLE, "undecodable"),
        (b"\x80\x02]q\x00" + b"h\x00" * 20_000 + b"e.", PICKLE, "undecodable"),
        (b"\x80\x04](" + b"}" * 20_000 + b"e.", PICKLE, "too_large"),
        (b"[" * 100_000, YAML, "undecodable"),
        (b"- " * 100_000, YAML, "undecodable"),
        (b"!!python/object/apply:os.system ['true']", YAML, "undecodable"),
        (b"a: {<<: {b: c}}", YAML, "undecodable"),
        (MERGES.encode(), YAML, "undecodable"),
        (b"\x01\x02", "application/data", "content_type"),
        (b"plain", "text/plain", "content_type"),
        (b"[" * 100_000, "application/x-own", "content_type"),
        (b"{}", JSON, "undecodable"),
    ],
)
def test_what_cannot_be_decoded_is_rejected(body: bytes, kind: str, reason: str) -> None:
    encoding = "no-such-encoding" if kind == JSON else "utf-8"
    with pytest.raises(RejectedMessage, match=reason):
        to_json(body, kind, encoding)


def test_values_that_multiply_are_left_out() -> None:
    """As JSON they would be endless."""
    assert json.loads(to_json(ALIASES.encode(), YAML, "utf-8")) == [{}]
    shared: Any = [1]
    for _ in range(100):
        shared = [shared, shared]
    assert json.loads(to_json(pickle.dumps({"a": shared, "b": 1}), PICKLE, "")) == [{"b": 1}]
    text = "x" * 1_000_000
    with pytest.raises(RejectedMessage, match="too_large"):
        to_json(pickle.dumps([{"a": text}] * 100), PICKLE, "")


@given(st.binary(max_size=60), st.sampled_from([PICKLE, MSGPACK, YAML, "application/data", "x"]))
def test_noise_is_json_or_rejected(body: bytes, kind: str) -> None:
    try:
        json.loads(to_json(body, kind, "binary"))
    except RejectedMessage:
        return


@given(
    st.none() | st.floats(allow_nan=False) | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=9),
    st.sampled_from(["yaml", "msgpack", "pickle"]),
)
def test_every_serializer_is_decoded_as_by_kombu(value: Any, serializer: str) -> None:
    kind, encoding, body = dumps_of_kombu({"a": [value, {"b": value}]}, serializer=serializer)
    assert repr(decode(body, kind, encoding)) == repr(loads(body, kind, encoding, accept={kind}))


def test_messages_that_are_slow_to_decode_have_a_lower_limit() -> None:
    text = "x" * 2_000_000
    with pytest.raises(RejectedMessage, match="too_large"):
        to_json(f"{{a: {text}}}".encode(), YAML, "utf-8")
    with pytest.raises(RejectedMessage, match="too_large"):
        to_json(pickle.dumps({"a": text}), PICKLE, "binary")
    assert to_json(json.dumps({"a": text}).encode("utf-16"), JSON, "utf-16")
