"""The web configuration file while the server runs: read again when it, or a file it names, has changed."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from celery_vitals.errors import ConfigError
from celery_vitals.web.config import WebConfig, read
from celery_vitals.web.sections import Fault
from celery_vitals.web.tls import server_context

_logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class Loaded:
    """A file that was good, and the TLS context made of it."""

    config: WebConfig
    context: ssl.SSLContext | None


class LiveConfig:
    """The file at `path`.  Raises ConfigError when it is wrong at the start; later the last good one stays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamps: dict[Path, Stamp] = {}
        try:
            self._loaded = self._load()
        except Fault as fault:
            raise ConfigError(self._line(fault)) from None

    def current(self) -> Loaded:
        """The newest good state.  Looks at the files' times on each call, which takes microseconds."""
        if any(_stamp(path) != stamp for path, stamp in self._stamps.items()):
            self._reload()
        return self._loaded

    def context(self) -> ssl.SSLContext:
        """The TLS context for a new connection; only when the file turns TLS on."""
        context = self.current().context
        assert context is not None  # noqa: S101 - _reload refuses a file that turns it off
        return context

    def _reload(self) -> None:
        try:
            loaded = self._load()
            if (loaded.context is None) != (self._loaded.context is None):
                raise Fault("TLS can be turned on or off by a restart only")
        except Fault as fault:
            # The stamps are those of the bad files, so this is said once per change.
            _logger.error("%s; the settings before stay in force", self._line(fault))  # noqa: TRY400
            return
        self._loaded = loaded
        _logger.info("read %s again, its new settings are in force", self._path)

    def _load(self) -> Loaded:
        # Each stamp is taken before its file is read: what changes in between is seen the next time.
        self._stamps[self._path] = _stamp(self._path)
        config = read(self._path)
        files = config.tls.files if config.tls else ()
        self._stamps = {
            self._path: self._stamps[self._path],
            **{path: _stamp(path) for path in files},
        }
        return Loaded(config, server_context(config.tls) if config.tls else None)

    def _line(self, fault: Fault) -> str:
        return f"--web.config.file: {self._path}: {fault}"


def _stamp(path: Path) -> Stamp:
    """What differs when a file was written or replaced; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
