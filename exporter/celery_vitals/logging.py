"""The log: one line for each event, as logfmt or JSON, without secrets."""

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
    """Formats `ts=... level=... logger=... msg=... name=value`, the last ones from `extra`."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as one line."""
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
        # Not `exc_text`, where another handler may have cached the unredacted traceback.
        if record.exc_info and record.exc_info[0] is not None:
            fields["exc"] = self._redact(self.formatException(record.exc_info))
        if record.stack_info:
            fields["stack"] = self._redact(record.stack_info)
        return fields

    def _line(self, fields: Mapping[str, str]) -> str:
        return " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())


class JsonFormatter(LogfmtFormatter):
    """Formats the same fields as one JSON object."""

    def _line(self, fields: Mapping[str, str]) -> str:
        return json.dumps(fields, ensure_ascii=False)


class RepetitionLimiter:
    """Limits identical lines per minute, and counts the suppressed ones in the next line."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[
            tuple[str, int, str], tuple[float, int]
        ] = {}  # start of the interval, count

    def allow(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record, and set `held_back` on it after suppressed lines."""
        key = (record.name, record.levelno, record.getMessage())
        now = self._clock()
        start, count = self._seen.pop(key, (now, 0))
        if now - start >= _INTERVAL:
            if count > _BURST:
                record.held_back = count - _BURST
            start, count = now, 0
        if len(self._seen) >= _REMEMBERED:
            self._seen.pop(next(iter(self._seen)), None)  # the least recently logged
        self._seen[key] = (start, count + 1)
        return count < _BURST


class _Handler(_StreamHandler):
    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._limiter = RepetitionLimiter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not self._limiter.allow(record):
                return
        except Exception:  # noqa: BLE001  formatting may raise anything
            self.handleError(record)
            return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  a method of logging
        """Log the place of an invalid call; the default would print its arguments and secrets."""
        kind = getattr(sys.exc_info()[0], "__name__", "error")
        where = f"{record.filename}:{record.lineno}"
        line = (
            f"level=error logger={record.name} msg={_quoted(f'{kind} while logging at {where}')}\n"
        )
        try:
            self.stream.write(line)
        except (OSError, ValueError, AttributeError):
            return  # no stream: Python has none if standard error is closed


def set_up(
    settings: Settings, more_secrets: Iterable[Secret] = (), stream: TextIO | None = None
) -> None:
    """Send the log of the process to `stream` (standard error), replacing a previous setup.

    Uncaught exceptions of all threads and Python's warnings are also logged, so that they are
    printed without secrets.
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
