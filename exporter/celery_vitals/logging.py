"""The log: one line for each event, with time and level, as logfmt or JSON, and nothing secret in it."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from celery_vitals.secrets import Redactor, Secret
from celery_vitals.settings import Settings

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # generic for the type checker only, before Python 3.11

_OWN_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_BARE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")
_INTERVAL = 60.0
_BURST = 5
_REMEMBERED = 1000


class LogfmtFormatter(logging.Formatter):
    """`ts=... level=... logger=... msg=... name=value`, where the last come from the `extra` of the call."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        return self._line(self._fields(record))

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        at = datetime.fromtimestamp(record.created, timezone.utc)
        fields = {
            "ts": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": self._redact(record.getMessage()),
        }
        for name, value in record.__dict__.items():
            if name not in _OWN_FIELDS and not name.startswith("_"):
                fields[name] = self._redact(str(value))
        # Not `exc_text`: another handler may have kept the traceback there as it was.
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc"] = self._redact(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = self._redact(record.stack_info)
        return fields

    def _line(self, fields: Mapping[str, str]) -> str:
        return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


class JsonFormatter(LogfmtFormatter):
    """The same fields as one JSON object."""

    def _line(self, fields: Mapping[str, str]) -> str:
        return json.dumps(fields, ensure_ascii=False)


class Repeats:
    """Lets the same line through a few times a minute, and says with the next one how many it held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}  # since when, how many times

    def allow(self, record: logging.LogRecord) -> bool:
        """Whether to log the record, which gets `held_back` when lines like it were not logged."""
        key = (record.name, record.levelno, record.getMessage())
        now = self._clock()
        since, times = self._seen.pop(key, (now, 0))
        if now - since >= _INTERVAL:
            if times > _BURST:
                record.held_back = times - _BURST
            since, times = now, 0
        if len(self._seen) >= _REMEMBERED:
            self._seen.pop(next(iter(self._seen)), None)  # the one heard longest ago
        self._seen[key] = (since, times + 1)
        return times < _BURST


class _Handler(_StreamHandler):
    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not self._repeats.allow(record):
                return
        except Exception:  # noqa: BLE001  whatever the arguments of somebody's log call do
            self.handleError(record)
            return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the name is logging's
        """Say which call is wrong.  Logging itself would print the message with its arguments, secrets and all."""
        kind = getattr(sys.exc_info()[0], "__name__", "error")
        where = f"{record.filename}:{record.lineno}"
        line = (
            f"level=error logger={record.name} msg={_quoted(f'{kind} while logging at {where}')}\n"
        )
        try:
            self.stream.write(line)
        except (OSError, ValueError, AttributeError):
            return  # the stream itself is gone, or never was: Python has none where standard error was closed


def set_up(
    settings: Settings, more_secrets: Iterable[Secret] = (), stream: TextIO | None = None
) -> None:
    """Send the log of the whole process to `stream` (standard error), in place of what was set up before.

    Exceptions that nobody has caught, in any thread, and Python's warnings go there too, so that nothing is printed
    with a secret in it.
    """
    redact = Redactor([*settings.secrets(), *more_secrets])
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(
        (JsonFormatter if settings.log_format == "json" else LogfmtFormatter)(redact)
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("celery_vitals").critical(
        "uncaught exception", exc_info=(kind, error, traceback)
    )


def _log_thread(args: Any) -> None:
    if args.exc_type is SystemExit:
        return
    error = args.exc_value or args.exc_type()
    name = args.thread.name if args.thread else "unknown"
    logging.getLogger("celery_vitals").error(
        "uncaught exception in thread %s", name, exc_info=(args.exc_type, error, args.exc_traceback)
    )


def _quoted(value: str) -> str:
    return value if _BARE.fullmatch(value) else json.dumps(value, ensure_ascii=False)
