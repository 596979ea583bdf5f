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
        unproven = name.lstrip("_")[:1].islower()
        assert exception_class(f"{name}({message!r})", None) == ("unknown" if unproven else name)


@pytest.mark.parametrize(
    "text",
    ["a" * 10_000_000, "a." * 1_000_000, "a(" * 1_000_000, " \n" * 1_000_000, "\n" * 1_000_000],
)
def test_huge_texts_take_no_long_time(text: str) -> None:
    assert len(exception_class(text, text)) <= 100


# What proves a class


class Connect(Exception):
    """An exception whose repr looks like a call of something else, and contains an address."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.port = port

    def __repr__(self) -> str:
        return f"connect(host='db', port={self.port})"


class Quotes(Exception):
    """An exception whose repr is that of its cause."""

    def __repr__(self) -> str:
        return repr(self.__cause__)


def in_task(trace: str) -> str:
    """Return a traceback with the frame of Celery's call of the task, from the last of a chain."""
    before, header, frames = trace.partition("\n\nTraceback")
    if "direct cause" not in before.partition("Traceback")[0]:
        before, header, frames = "", "Traceback", trace.removeprefix("Traceback")
    line, end, rest = frames.partition("\n")
    frame = '  File "/site-packages/celery/app/trace.py", line 453, in trace_task\n    R = fun()\n'
    return f"{before}{header}{line}{end}{frame}{rest}"


REMOTE = text_of(raising(KeyError("far away")))
REMOTE_CHAIN = text_of(raising(KeyError("far away"), OSError("network")))
NAMED: list[BaseException] = [
    ValueError(),
    OwnReprError(1),
    Connect(1),
    Quotes("x"),
    NotRegistered("x"),
]


def test_a_repr_that_looks_like_a_call_is_not_a_class() -> None:
    names = {
        exception_class(repr(Connect(port)), text_of(raising(Connect(port)))) for port in range(300)
    }
    assert names == {"Connect"}
    assert exception_class("connect(host='db')", None) == "unknown"
    assert exception_class("connect(host='db')", text_of(raising(ValueError("x")))) == "ValueError"
    assert exception_class("timeout('timed out')", "socket.timeout: timed out\n") == "timeout"


@pytest.mark.parametrize("error", NAMED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "remote", [REMOTE, REMOTE_CHAIN, f'\n"""\n{REMOTE}"""', f"{REMOTE}\n{REMOTE}"]
)
@pytest.mark.parametrize("cause", [None, OSError("cause"), Connect(2)])
def test_a_traceback_in_the_message(
    error: BaseException, remote: str, cause: BaseException | None
) -> None:
    error.args = (f"the server replied: {remote}",)
    trace = text_of(raising(error, cause))
    own = type(error).__name__
    assert exception_class(repr(error), in_task(trace)) == own
    if own in repr(error) or (remote is not REMOTE_CHAIN and cause is None):
        assert exception_class(repr(error), trace) == own


def test_a_traceback_in_the_message_of_a_cause() -> None:
    trace = text_of(raising(ValueError("x"), RuntimeError(f"replied: {REMOTE}")))
    assert exception_class("ValueError('x')", trace) == "ValueError"
    assert exception_class("connect(1)", trace) == "ValueError"


@pytest.mark.parametrize(
    "kind", ["multiprocessing.pool", "concurrent.futures.process._", "billiard.einfo."]
)
@pytest.mark.parametrize("inner", [REMOTE, REMOTE_CHAIN])
@pytest.mark.parametrize("repr_", ["<own>", "KeyError('far away')"])
def test_a_cause_that_is_a_traceback_of_another_process(kind: str, inner: str, repr_: str) -> None:
    cause = f'{kind}RemoteTraceback: \n"""\n{inner}"""\n\n'
    direct = "The above exception was the direct cause of the following exception:\n\n"
    assert exception_class(repr_, f"{cause}{direct}{REMOTE}") == "KeyError"


def test_the_exception_that_was_raised_while_another_was_handled() -> None:
    def raises() -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise Connect(1)  # noqa: B904

    assert exception_class(repr(Connect(1)), text_of(raises)) == "Connect"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups")
def test_the_class_of_an_exception_group_is_that_of_the_group() -> None:
    class OwnGroup(ExceptionGroup):  # type: ignore[name-defined,misc,unused-ignore]  # noqa: F821
        def __repr__(self) -> str:
            return "<several>"

    for cause in (None, ValueError("cause"), OwnGroup("inner", [KeyError("b")])):
        group = OwnGroup("several", [ValueError("a"), OwnGroup("deep", [KeyError("b")])])
        assert exception_class(repr(group), text_of(raising(group, cause))) == "OwnGroup"


TRACE = text_of(raising(ValueError("x")))


@pytest.mark.parametrize(
    ("text", "trace", "name"),
    [
        ("ValueError('x')", TRACE[: TRACE.index("ValueError:")], "ValueError"),  # cut at its end
        ("<own>", TRACE[: TRACE.index("ValueError:")], "unknown"),
        ("<own>", TRACE[: TRACE.index("ValueError:") + 14], "ValueError"),
        ("<own>", TRACE[TRACE.index("\n") + 1 :], "ValueError"),  # cut at its start
        ("<own>", "...\n" + TRACE[TRACE.index("\n") + 1 :], "ValueError"),
        ("<own>", "package.mod.ValueError: x\n", "ValueError"),  # never raised
        ("<own>", "something went wrong", "unknown"),
        ("error('x')", TRACE.replace("ValueError", "zlib.error"), "error"),
        ("UnpickleableExceptionWrapper('m', 'ValueError', (), 'x')", TRACE, "ValueError"),
    ],
)
def test_a_traceback_that_is_cut(text: str, trace: str, name: str) -> None:
    assert exception_class(text, trace) == name


def test_many_wrappers_around_each_other() -> None:
    frames = 'Traceback (most recent call last):\n  File "a", line 1\n    x\n'
    traceback = f'{frames}celery.utils.serialization.ExceptionWithTraceback: \n"""\n' * 5000
    assert exception_class("ValueError(1)", traceback) == "ValueError"
