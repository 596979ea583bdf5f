"""Decoding of events, compared with Python's own JSON parser, which kombu uses."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.serialization import loads as kombu_loads

from celery_vitals.events.decode import BROKEN, Event, decode, decode_each

EVENT = {"type": "task-started", "hostname": "w@h", "uuid": "u", "timestamp": 1.8e9}
TEXTS = ("name", "queue", "exchange", "exception", "traceback", "eta", "sw_ver")
WHOLE = ("retries", "pid", "active", "processed")
FLAGS = ("terminated", "expired", "requeue")
NUMBERS = ("runtime", "utcoffset")


def decode_all(body: bytes) -> list[Event | str]:
    """Decode as `EventProcessor` does: the whole message, or part by part when that fails."""
    try:
        return list(decode(body))
    except BROKEN:
        return list(decode_each(body))


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return is_whole(value) or isinstance(value, float)


def is_event(part: Any) -> bool:
    """Return whether a value is an event: every field in use has its type."""
    return (
        isinstance(part, dict)
        and isinstance(part.get("type"), str)
        and isinstance(part.get("hostname"), str)
        and isinstance(part.get("uuid", ""), str)
        and is_number(part.get("timestamp", 0.0))
        and all(isinstance(part.get(name, ""), str | None) for name in TEXTS)
        and all(part.get(name) is None or is_whole(part[name]) for name in WHOLE)
        and all(isinstance(part.get(name, True), bool | None) for name in FLAGS)
        and all(part.get(name) is None or is_number(part[name]) for name in NUMBERS)
    )


def decode_as_kombu(body: bytes) -> list[dict[str, Any] | str]:
    try:
        read = kombu_loads(body, "application/json", "utf-8")
    except Exception:
        return ["not_json"]
    return [
        part if is_event(part) else "malformed"
        for part in (read if isinstance(read, list) else [read])
    ]


def same(found: Event | str, expected: dict[str, Any] | str) -> bool:
    if isinstance(found, str) or isinstance(expected, str):
        return found == expected
    return all(
        repr(getattr(found, name)) == repr(expected[name]) or getattr(found, name) == expected[name]
        for name in Event.__struct_fields__
        if name in expected
    )


def assert_decoded_as_by_kombu(body: bytes) -> None:
    found, expected = decode_all(body), decode_as_kombu(body)
    assert len(found) == len(expected), (found, expected)
    assert all(same(one, other) for one, other in zip(found, expected, strict=True)), (
        found,
        expected,
    )


surrogates = st.text(st.characters(exclude_categories=()), max_size=5) | st.text(
    st.characters(categories=["Cs"]), max_size=2
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | surrogates
    | st.sampled_from([2**64, -(2**63), 10**30]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
fields = (
    st.sampled_from(TEXTS).flatmap(lambda name: st.tuples(st.just(name), st.none() | surrogates))
    | st.sampled_from(WHOLE).flatmap(
        lambda name: st.tuples(st.just(name), st.none() | st.integers())
    )
    | st.sampled_from(NUMBERS).flatmap(
        lambda name: st.tuples(
            st.just(name), st.none() | st.floats(allow_nan=False, allow_infinity=False)
        )
    )
    | st.sampled_from(FLAGS).flatmap(
        lambda name: st.tuples(st.just(name), st.none() | st.booleans())
    )
    | st.tuples(st.sampled_from(["args", "result", "x", "é"]), values)
)
odd_fields = st.tuples(st.sampled_from(Event.__struct_fields__), values)
events = st.lists(fields, max_size=6).map(lambda pairs: EVENT | dict(pairs))
odd_events = st.lists(fields | odd_fields, max_size=6).map(lambda pairs: EVENT | dict(pairs))


@given(events, st.booleans())
def test_every_valid_celery_event_is_decoded(event: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps(event, ensure_ascii=ascii_only).encode(errors="replace")
    (found,) = decode_all(body)
    assert isinstance(found, Event)
    assert_decoded_as_by_kombu(body)


@given(st.lists(odd_events | values, max_size=4) | odd_events | values)
def test_any_json_is_decoded_as_by_kombu(value: Any) -> None:
    assert_decoded_as_by_kombu(json.dumps(value).encode())


@given(st.binary() | st.binary().map(lambda tail: json.dumps(EVENT).encode()[:-1] + tail))
def test_any_bytes_never_crash(body: bytes) -> None:
    for part in decode_all(body):
        assert isinstance(part, Event) or part in {"not_json", "malformed"}


@given(events, st.data())
def test_truncated_or_corrupted_event_never_crashes(
    event: dict[str, Any], data: st.DataObject
) -> None:
    body = bytearray(json.dumps(event).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))
    for piece in (bytes(body), bytes(body[:at]), bytes(body[at:])):
        decode_all(piece)


def with_field(text: str) -> bytes:
    return json.dumps(EVENT).encode()[:-1] + b", " + text.encode() + b"}"


@pytest.mark.parametrize(
    "body",
    [
        with_field(r'"args": "\ud800"'),
        with_field(r'"traceback": "bad file caf\udce9 here"'),
        with_field(r'"name": "\udc00"'),
        with_field('"result": NaN'),
        with_field('"result": -Infinity'),
        with_field('"uuid": null, "uuid": "v"'),
        with_field('"uuid": "v", "uuid": "w"'),
        b" \n" + json.dumps(EVENT).encode() + b" ",
        b" [" + json.dumps(EVENT).encode() + b"]",
        b"[" + with_field(r'"args": "\ud800"') + b", " + json.dumps(EVENT).encode() + b"]",
        with_field('"kwargs": "' + "x" * 10_000_000 + '"'),
        with_field('"pid": 99999999999999999999'),
    ],
)
def test_json_accepted_by_kombu_is_decoded(body: bytes) -> None:
    assert_decoded_as_by_kombu(body)
    assert all(isinstance(part, Event) for part in decode_all(body))


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        (b"", ["not_json"]),
        (b"\x80\x04\x95", ["not_json"]),  # a pickle
        (b"null", ["malformed"]),
        (b"3", ["malformed"]),
        (b'"text"', ["malformed"]),
        (b"{}", ["malformed"]),
        (b"[]", []),
        (b"[[]]", ["malformed"]),
        (b"[1, null]", ["malformed", "malformed"]),
        (b'[{"type":"a","hostname":"h"}', ["not_json"]),
        (json.dumps(EVENT).encode() + b"x", ["not_json"]),
        (with_field('"hostname": null'), ["malformed"]),
        (with_field('"timestamp": null'), ["malformed"]),
        (with_field('"timestamp": "now"'), ["malformed"]),
        (with_field('"uuid": 7'), ["malformed"]),
        (with_field('"name": ["x"]'), ["malformed"]),
        (with_field('"retries": true'), ["malformed"]),
        (b"[" * 200_000, ["not_json"]),
        (b"[" * 200_000 + b"]" * 200_000, ["not_json"]),
        (with_field('"x": ' + "[" * 200_000 + "]" * 200_000), ["not_json"]),
        (with_field('"x": ' + '{"a":' * 200_000 + "1" + "}" * 200_000), ["not_json"]),
    ],
)
def test_invalid_events_are_rejected_with_a_reason(body: bytes, reasons: list[str]) -> None:
    assert decode_all(body) == reasons


def test_malformed_event_in_a_batch_rejects_only_itself() -> None:
    good = json.dumps(EVENT).encode()
    found = decode_all(b"[" + good + b', {"type": 3}, ' + good + b"]")
    assert [part if isinstance(part, str) else part.uuid for part in found] == [
        "u",
        "malformed",
        "u",
    ]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "9" * 400, "9" * 5000])
@pytest.mark.parametrize("name", ["timestamp", "runtime", "utcoffset"])
def test_non_finite_times_never_crash(name: str, number: str) -> None:
    for part in decode_all(with_field(f'"{name}": {number}')):
        assert isinstance(part, Event) or part in {"not_json", "malformed"}


def test_an_event_is_not_tracked_by_the_garbage_collector() -> None:
    assert Event.__struct_config__.gc is False
    assert msgspec.json.decode(json.dumps(EVENT), type=Event).timestamp == 1.8e9
    assert not math.isnan(Event("a", "b").timestamp)
