"""TLS options of `--broker-ssl-option`, and how far a certificate is verified.

The exporter verifies what the application verifies with the same settings, no more and no less:
it must not fail where the workers do not.  A missing check is a blind spot.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from celery_vitals.errors import ConfigError

OPTION = "--broker-ssl-option"
DISABLED = (ssl.CERT_NONE, None, "none", "CERT_NONE")
"""Values of `cert_reqs` that turn verification off."""
NOT_VERIFIED = "is not verified (open to man-in-the-middle attacks)"
NAME_NOT_VERIFIED = (
    "is verified, but not the name in it (open to attacks with any certificate of a trusted"
    " authority)"
)
_CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True)
class UnverifiedCertificate:
    """A missing check of a certificate."""

    finding: str
    """The rest of a sentence that begins with the certificate."""
    option: str
    """The TLS option that turns verification on."""


def checked(options: Mapping[str, Any], allowed: Collection[str]) -> dict[str, Any]:
    """Return the options, with `cert_reqs` of the ssl module; ConfigError for unknown ones.

    Without names in `allowed` the library itself rejects unknown options, when it connects.
    """
    for name in options:
        if allowed and name not in allowed:
            raise ConfigError(
                f"{OPTION}: unknown option {name!r} (expected one of: {', '.join(sorted(allowed))})"
            )
    return {
        name: _cert_reqs(value) if name.endswith("cert_reqs") else value
        for name, value in options.items()
    }


def _cert_reqs(value: Any) -> Any:
    if isinstance(value, ssl.VerifyMode):
        return value
    word = str(value).lower().removeprefix("cert_")
    if word not in _CERT_REQS:
        raise ConfigError(
            f"{OPTION}: unknown cert_reqs {word!r} (expected one of: {', '.join(_CERT_REQS)})"
        )
    return _CERT_REQS[word]
