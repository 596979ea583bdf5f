"""The log: its two formats, that no secret gets into it, and that it does not repeat itself."""

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
    """What `set_up` changes is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    root.handlers = []  # or they would be closed
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
        'level=warning logger=tests.logs msg="queue a=b has 3 messages" queue="a=b" seconds=0.5 empty=""'
    )


def test_json() -> None:
    stream = set_up(log_format="json")
    log.error("päd\n%s", "x", extra={"queue": "q"})
    (line,) = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert fields.pop("ts").endswith("Z")
    assert fields == {"level": "error", "logger": "tests.logs", "msg": "päd\nx", "queue": "q"}


@pytest.mark.parametrize("format", ["logfmt", "json"])
def test_a_traceback_is_a_part_of_the_line(format: str) -> None:
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


def test_secrets_that_the_settings_do_not_know() -> None:
    stream = set_up(more=(Secret("redis://:of-the-app@h"),))
    log.info("of-the-app and amqp://user:nobody-knows@h//", stack_info=True)
    assert "of-the-app" not in stream.getvalue()
    assert "nobody-knows" not in stream.getvalue()
    assert 'msg="*** and amqp://***@h//"' in stream.getvalue()


def test_a_traceback_that_another_handler_has_kept() -> None:
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


def test_a_wrong_call_shows_neither_its_arguments_nor_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = set_up()
    log.info("%d", "s3cret")
    assert re.fullmatch(
        r'level=error logger=tests.logs msg="TypeError while logging at test_logging.py:\d+"\n',
        stream.getvalue(),
    )
    assert capsys.readouterr().err == ""


def test_without_a_standard_error_nothing_is_logged_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        sys, "stderr", None
    )  # as Python does for a program that is started with 2>&-
    logs.set_up(Settings())
    log.error("nobody reads this")


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


def test_repeats_are_held_back_and_counted() -> None:
    now = 0.0
    repeats = logs.Repeats(lambda: now)
    assert [repeats.allow(record("again")) for _ in range(8)] == [True] * 5 + [False] * 3
    assert repeats.allow(record("something else"))
    now = 59.0
    assert not repeats.allow(record("again"))
    now = 60.0
    after = record("again")
    assert repeats.allow(after)
    assert after.__dict__["held_back"] == 4
    now = 200.0
    assert repeats.allow(quiet := record("again"))
    assert "held_back" not in quiet.__dict__


def test_what_is_remembered_of_repeats_is_bounded() -> None:
    repeats = logs.Repeats(lambda: 0.0)
    for number in range(5000):
        assert repeats.allow(record(f"line {number}"))
    assert len(repeats._seen) <= 1000


def test_a_loop_does_not_fill_the_log() -> None:
    stream = set_up()
    for _ in range(100):
        log.warning("still down")
    assert len(stream.getvalue().splitlines()) == 5
