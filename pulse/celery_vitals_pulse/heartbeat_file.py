"""The file that a liveness probe looks at."""

from __future__ import annotations

import logging
import os
import tempfile

log = logging.getLogger("celery_vitals_pulse")


class HeartbeatFile:
    """The heartbeat file of one process.  No method raises."""

    def __init__(self, path: str, interval: float) -> None:
        self.path = path
        self.errors = 0
        """Number of touches that failed."""
        self._content = f"pid={os.getpid()} interval={interval:g}\n"
        self._problem = ""

    def touch(self) -> None:
        """Set the file's time to now, and create it if it is missing.

        Either is one operation of the file system: a probe sees no file in between.
        """
        try:
            try:
                os.utime(self.path, follow_symlinks=False)
            except FileNotFoundError:
                self._create()
        except OSError as error:
            self.errors += 1
            self._log(str(error.strerror or error))
        else:
            self._problem = ""

    def replace(self) -> None:
        """Write the file anew: an older one may be of an earlier process, or of another user."""
        try:
            self._create()
        except OSError:
            self.touch()  # in a folder that is not writable the file itself may be

    def remove(self) -> None:
        """Remove the file."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._log(str(error.strerror or error))

    def _create(self) -> None:
        folder = os.path.dirname(self.path) or "."
        os.makedirs(folder, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".pulse-", dir=folder)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(self._content)
            os.chmod(temporary, 0o644)  # probes may run as another user
            os.replace(temporary, self.path)
        except OSError:
            os.unlink(temporary)
            raise

    def _log(self, problem: str) -> None:
        """Log a problem when it begins."""
        if problem != self._problem:
            self._problem = problem
            log.warning("heartbeat file %s: %s", self.path, problem)
