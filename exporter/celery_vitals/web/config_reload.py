"""Reload of the web configuration when the file, or a file that it names, changes."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from celery_vitals.errors import ConfigError
from celery_vitals.web.config import WebConfig, read
from celery_vitals.web.config_file import WebConfigError
from celery_vitals.web.tls import server_context

_logger = logging.getLogger(__name__)

FileVersion = tuple[int, int, int] | None


@dataclass(frozen=True)
class Loaded:
    """A valid file, and the TLS context built from it."""

    config: WebConfig
    context: ssl.SSLContext | None


class ReloadingConfig:
    """The configuration at `path`.

    Raises ConfigError when the file is invalid at construction; after that, an invalid file is
    logged and the last valid configuration stays in effect.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._versions: dict[Path, FileVersion] = {}
        try:
            self._loaded = self._load()
        except WebConfigError as error:
            raise ConfigError(self._message(error)) from None

    def current(self) -> Loaded:
        """Return the last valid configuration.  Each call compares file times, in microseconds."""
        if any(_file_version(path) != version for path, version in self._versions.items()):
            self._reload()
        return self._loaded

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for a new connection; only for a file that enables TLS."""
        context = self.current().context
        assert context is not None  # noqa: S101 - _reload rejects a file that disables TLS
        return context

    def _reload(self) -> None:
        try:
            loaded = self._load()
            if (loaded.context is None) != (self._loaded.context is None):
                raise WebConfigError("enabling or disabling TLS requires a restart")
        except WebConfigError as error:
            # The versions are those of the invalid files, so each change is logged once.
            message = self._message(error)
            _logger.error("%s; the previous configuration stays in effect", message)  # noqa: TRY400
            return
        self._loaded = loaded
        _logger.info("reloaded %s", self._path)

    def _load(self) -> Loaded:
        # Taken before the file is read: a change in between is detected by the next call.
        self._versions[self._path] = _file_version(self._path)
        try:
            config = read(self._path)
            files = config.tls.files if config.tls else ()
            versions = {path: _file_version(path) for path in files}
            self._versions = {self._path: self._versions[self._path], **versions}
            return Loaded(config, server_context(config.tls) if config.tls else None)
        except ValueError:
            # YAML allows escapes such as "\0" and "\ud800", which no path or header may contain.
            raise WebConfigError("a key or a value contains an invalid character") from None

    def _message(self, error: WebConfigError) -> str:
        return f"--web.config.file: {error.located(self._path)}"


def _file_version(path: Path) -> FileVersion:
    """Return what changes when a file is written or replaced; None when the file is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
