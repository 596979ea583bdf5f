"""The hierarchy of errors, and the closed set of reasons why a probe fails.

    VitalsError
      ConfigError       an invalid setting: one line for the user, exit code 2
      ProbeError        a failed probe whose reason is known
        BlockedError    a broker that accepts no messages now

The text of an error appears in the log and on the status page, never in a label: a label carries
a `Reason`.
"""

from __future__ import annotations

from enum import Enum


class VitalsError(Exception):
    """Base class of all errors of this program."""


class ConfigError(VitalsError):
    """An invalid setting.  The text is one line that names the setting."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))  # it may quote the error of a library


class Reason(str, Enum):
    """Why a probe failed: the values of the label `reason`."""

    AUTHENTICATION = "authentication"
    CLOSED = "closed"
    INTERNAL = "internal"
    NOT_FOUND = "not_found"
    PERMISSION = "permission"
    PROTOCOL = "protocol"
    REFUSED = "refused"
    RESOLVE = "resolve"
    STUCK = "stuck"
    TIMEOUT = "timeout"
    TLS = "tls"
    UNAVAILABLE = "unavailable"
    UNREACHABLE = "unreachable"

    @property
    def description(self) -> str:
        """A description for the status page and the log."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    Reason.AUTHENTICATION: "authentication failed (wrong or missing user name or password)",
    Reason.CLOSED: "connection closed by the server (restarted, or TLS required?)",
    Reason.INTERNAL: "internal error (see the log of the exporter)",
    Reason.NOT_FOUND: "virtual host, database or table not found, or access to it denied",
    Reason.PERMISSION: "permission denied (see the log of the exporter)",
    Reason.PROTOCOL: "invalid response (wrong port?)",
    Reason.REFUSED: "connection refused (nothing listens on this address and port)",
    Reason.RESOLVE: "host name not resolved",
    Reason.STUCK: "previous attempt still blocked",
    Reason.TIMEOUT: "timeout (server overloaded, wrong port, or TLS mismatch?)",
    Reason.TLS: "TLS handshake failed (TLS enabled on both sides, certificates trusted?)",
    Reason.UNAVAILABLE: "service unavailable (see the log of the exporter)",
    Reason.UNREACHABLE: "host unreachable",
}


class ProbeError(VitalsError):
    """A failed probe whose reason is known where it is raised."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class BlockedError(ProbeError):
    """The broker is up but accepts no messages now.

    Keep the connection: the broker would not even read that it is closed.
    """
