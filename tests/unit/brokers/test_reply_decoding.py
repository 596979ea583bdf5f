"""Replies are decoded as kombu decodes them, whichever decoder is used."""

from __future__ import annotations

import datetime
import json
import math
import pickle
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import DecodeError
from kombu.serialization import loads
from kombu.utils.json import dumps

from celery_vitals.brokers.reply_decoding import decode

JSON = "application/json"
PICKLE = "application/x-python-serialize"
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
