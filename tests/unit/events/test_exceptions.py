"""The class of an exception, from any repr and traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo, ExceptionWithTraceback
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import NotRegistered, Reject, Retry
from hypothesis import given
from hypothesis import strategies as st

from celery_vitals.events.exceptions import exception_class

WRAPPED = "ExceptionWithTraceback()"


class OwnReprError(Exception):
    """An exception whose repr does not contain its class."""

    def __repr__(self) -> str:
        return f"<own {self.args}>"


class StärkeError(Exception):
    """An exception with a name that is not ASCII."""


def text_of(raises: Callable[[], Any]) -> str:
    """Return the traceback of the exception that this raises."""
    try:
        raises()
    except BaseException:
        return traceback.format_exc()
    raise AssertionError("nothing was raised")


def raising(error: BaseException, cause: BaseException | None = None) -> Callable[[], Any]:
    def raises() -> None:
        raise error from cause

    return raises


def billiard_text(error: BaseException) -> str:
    """Return the traceback as a pool reports a failure of a child process, not in it."""
    try:
        raise error
    except BaseException:
        info = sys.exc_info()
    wrapped = ExceptionWithTraceback(error, "".join(traceback.format_exception(*info)))
    return text_of(raising(wrapped))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ValueError('boom')", "ValueError"),
        ("ValueError()", "ValueError"),
        ("requests.exceptions.HTTPError('404')", "HTTPError"),
        ("KeyError('a(b')", "KeyError"),
        ("NotRegistered('x')", "NotRegistered"),
        ("Größe('x')", "Größe"),
        ("Ärger('x')", "Ärger"),
        ("_Private(1)", "_Private"),
        ("A" * 500 + "()", "A" * 100),
        (None, "unknown"),
        ("", "unknown"),
        ("no class here", "unknown"),
        ("<Unrepresentable 0x7f: TypeError>", "unknown"),
        ("(1, 2)", "unknown"),
        ("3Error()", "unknown"),
        (WRAPPED, "unknown"),
        ("ExceptionInfo(1)", "unknown"),
        ("reject requeue=False: (1)", "unknown"),
    ],
)
def test_class_from_the_repr(text: str | None, name: str) -> None:
    assert exception_class(text, None) == name


@pytest.mark.parametrize(
    "error", [TimeLimitExceeded(1), WorkerLostError("Worker exited prematurely: signal 9")]
)
def test_time_limits_and_lost_workers(error: Exception) -> None:
    name = type(error).__name__
    assert exception_class(WRAPPED, text_of(raising(error))) == name
    assert exception_class(WRAPPED, billiard_text(error)) == name
    try:
        raise error
    except Exception:
        assert exception_class(WRAPPED, ExceptionInfo().traceback) == name


def locally() -> None:
    class LocalError(Exception):
        pass

    raise LocalError("x")


def syntax() -> None:
    compile("a b", "<text>", "exec")


def noted() -> None:
    error = ValueError("x")
    if hasattr(error, "add_note"):
        error.add_note("note: of mine")
    raise error


@pytest.mark.parametrize(
    ("raises", "name"),
    [
        (raising(ValueError("x")), "ValueError"),
        (raising(ValueError()), "ValueError"),
        (raising(ValueError("one\ntwo\nthree")), "ValueError"),
        (raising(ValueError("one\nKeyError: two")), "ValueError"),
        (raising(ValueError("one\n  indented\nother: three")), "ValueError"),
        (raising(ValueError("one\n\n  deep\n\n")), "ValueError"),
        (raising(ValueError("query failed:\n    SELECT 1\nHINT: none")), "ValueError"),
        (raising(ValueError("x"), KeyError("cause")), "ValueError"),
        (raising(KeyError("a: b")), "KeyError"),
        (raising(OwnReprError(1)), "OwnReprError"),
        (raising(StärkeError(1)), "StärkeError"),
        (raising(NotRegistered("x")), "NotRegistered"),
        (raising(Reject("x", requeue=False)), "Reject"),
        (raising(Retry("x")), "Retry"),
        (raising(SystemExit(1)), "SystemExit"),
        (syntax, "SyntaxError"),
        (locally, "LocalError"),
        (noted, "ValueError"),
    ],
)
def test_class_from_the_traceback(raises: Callable[[], Any], name: str) -> None:
    assert exception_class(WRAPPED, text_of(raises)) == name
    assert exception_class("<no class>", text_of(raises)) == name


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups")
def test_an_exception_group() -> None:
    group = ExceptionGroup("several", [ValueError("a"), KeyError("b")])  # type: ignore[name-defined,unused-ignore]  # noqa: F821
    assert exception_class(repr(group), text_of(raising(group))) == "ExceptionGroup"
    assert exception_class(WRAPPED, text_of(raising(group))) in {"ExceptionGroup", "unknown"}


def test_wrapper_without_a_traceback_is_unknown() -> None:
    assert (
        exception_class(
            WRAPPED,
            "Traceback (most recent call last):\n  File 1\nbilliard.einfo.ExceptionWithTraceback",
        )
        == "unknown"
    )
    assert exception_class(WRAPPED, "") == "unknown"
    assert exception_class(WRAPPED, "\n\n  \n") == "unknown"


@given(st.none() | st.text(), st.none() | st.text())
def test_any_text_gives_a_valid_exception_label(text: str | None, trace: str | None) -> None:
    name = exception_class(text, trace)
    assert name
    assert len(name) <= 100
    assert "." not in name
    assert not any(letter.isspace() for letter in name)


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,50}", fullmatch=True), st.text(max_size=50))
def test_the_repr_of_an_exception(name: str, message: str) -> None:
    wrappers = {
        "ExceptionWithTraceback",
        "ExceptionInfo",
        "UnpickleableExceptionWrapper",
        "MaybeEncodingError",
    }
    if name not in wrappers:
        assert exception_class(f"{name}({message!r})", None) == name


@pytest.mark.parametrize(
    "text",
    ["a" * 10_000_000, "a." * 1_000_000, "a(" * 1_000_000, " \n" * 1_000_000, "\n" * 1_000_000],
)
def test_huge_texts_take_no_long_time(text: str) -> None:
    assert len(exception_class(text, text)) <= 100
