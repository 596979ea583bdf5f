"""The log: formats, redaction of secrets, limits of repetition."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from celery_vitals import logging as logs
from celery_vitals.settings import Secret, Settings

PASSWORDS = ["p@ss:w/o?r#d%1", "hunter2hunter2", 'quo"te\\back', "spa ce+plus", "pässwörd"]
log = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def log_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore what `set_up` changes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    root.handlers = []  # to keep them from being closed
    yield
    logging.captureWarnings(False)
    root.handlers = handlers
    root.setLevel(level)


def set_up(*, more: tuple[Secret, ...] = (), **values: object) -> io.StringIO:
    stream = io.StringIO()
    logs.set_up(Settings(**values), more, stream)  # type: ignore[arg-type]
    return stream


def test_logfmt() -> None:
    stream = set_up()
    log.warning(
        "queue %s has %d messages", "a=b", 3, extra={"queue": "a=b", "seconds": 0.5, "empty": ""}
    )
    (line,) = stream.getvalue().splitlines()
    stamp, rest = line.split(" ", 1)
    assert re.fullmatch(r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert rest == (
        'level=warning logger=tests.logs msg="queue a=b has 3 messages"'
        ' queue="a=b" seconds=0.5 empty=""'
    )


def test_json() -> None:
    stream = set_up(log_format="json")
    log.error("päd\n%s", "x", extra={"queue": "q"})
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields.pop("ts").endswith("Z")
    assert fields == {"level": "error", "logger": "tests.logs", "msg": "päd\nx", "queue": "q"}


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_traceback_is_part_of_the_line(format: str) -> None:
    stream = set_up(log_format=format)
    try:
        raise RuntimeError("first\nsecond")
    except RuntimeError:
        log.exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "Traceback (most recent call last):\\n" in line
    assert "RuntimeError: first\\nsecond" in line


def test_level() -> None:
    stream = set_up(log_level="warning")
    log.info("not this")
    log.warning("this")
    assert "not this" not in stream.getvalue()
    assert "msg=this" in stream.getvalue()


def test_setting_up_again_replaces_what_was_there() -> None:
    first, second = set_up(), set_up()
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


@pytest.mark.parametrize("format", ["logfmt", "json"])
@pytest.mark.parametrize("password", PASSWORDS)
def test_no_secret_gets_into_the_log(password: str, format: str) -> None:
    url = f"amqp://user:{quote(password, safe='')}@host//"
    stream = set_up(broker_url=url, log_level="debug", log_format=format)
    log.debug("connecting to %s with %r", url, password, extra={"given": {"password": password}})
    log.info("to %s", url.replace("user", "other"), stack_info=True)
    try:
        try:
            raise OSError(f"cannot connect with {password} to {url}")
        except OSError as error:
            raise RuntimeError(repr(error)) from error
    except RuntimeError:
        log.exception("failed: %s", password)
    text = stream.getvalue()
    assert text.count("\n") == 3
    for form in (
        password,
        quote(password),
        quote(password, safe=""),
        repr(password)[1:-1],
        json.dumps(password)[1:-1],
    ):
        assert form not in text
        assert json.dumps(form)[1:-1] not in text
    assert "***" in text


def test_secrets_from_other_sources_are_redacted() -> None:
    stream = set_up(more=(Secret("redis://:of-the-app@h"),))
    log.info("of-the-app and amqp://user:unknown@h//", stack_info=True)
    assert "of-the-app" not in stream.getvalue()
    assert "unknown" not in stream.getvalue()
    assert 'msg="*** and amqp://***@h//"' in stream.getvalue()


def test_traceback_cached_by_another_handler_is_redacted() -> None:
    stream = set_up(broker_url="redis://:s3cret-s3cret@h")
    try:
        raise OSError("s3cret-s3cret")
    except OSError:
        record = log.makeRecord("tests", logging.ERROR, "f", 1, "failed", (), sys.exc_info())
    logging.Formatter().format(record)
    assert record.exc_text is not None
    assert "s3cret" in record.exc_text
    log.handle(record)
    assert "s3cret" not in stream.getvalue()


def test_invalid_log_call_shows_no_arguments_and_no_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = set_up()
    log.info("%d", "s3cret")
    assert re.fullmatch(
        r'level=error logger=tests.logs msg="TypeError while logging at test_logging.py:\d+"\n',
        stream.getvalue(),
    )
    assert capsys.readouterr().err == ""


def test_logging_without_standard_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", None)  # as for a program started with 2>&-
    logs.set_up(Settings())
    log.error("not printed")


def test_warnings_and_uncaught_exceptions_are_logged() -> None:
    stream = set_up(broker_url="redis://:s3cret-s3cret@h")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("mind s3cret-s3cret", stacklevel=1)
    sys.excepthook(OSError, OSError("main s3cret-s3cret"), None)
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)

    def fail() -> None:
        raise OSError("thread s3cret-s3cret")

    thread = threading.Thread(target=fail, name="probe")
    thread.start()
    thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3
    assert "UserWarning: mind ***" in lines[0]
    assert "OSError: main ***" in lines[1]
    assert 'msg="uncaught exception in thread probe"' in lines[2]
    assert "s3cret" not in stream.getvalue()


def record(text: str) -> logging.LogRecord:
    return log.makeRecord("tests", logging.WARNING, "f", 1, text, (), None)


def test_repeated_lines_are_suppressed_and_counted() -> None:
    now = 0.0
    limiter = logs.RepetitionLimiter(lambda: now)
    assert [limiter.allow(record("again")) for _ in range(8)] == [True] * 5 + [False] * 3
    assert limiter.allow(record("something else"))
    now = 59.0
    assert not limiter.allow(record("again"))
    now = 60.0
    after = record("again")
    assert limiter.allow(after)
    assert after.__dict__["held_back"] == 4
    now = 200.0
    assert limiter.allow(quiet := record("again"))
    assert "held_back" not in quiet.__dict__


def test_memory_of_repeated_lines_is_bounded() -> None:
    limiter = logs.RepetitionLimiter(lambda: 0.0)
    for number in range(5000):
        assert limiter.allow(record(f"line {number}"))
    assert len(limiter._seen) <= 1000


def test_a_loop_does_not_fill_the_log() -> None:
    stream = set_up()
    for _ in range(100):
        log.warning("still down")
    assert len(stream.getvalue().splitlines()) == 5
