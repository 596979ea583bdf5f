"""The web configuration file, in the format of Prometheus' exporter-toolkit.

    tls_server_config:    certificate, key, client certificates, versions, ciphers
    http_server_config:   response headers
    basic_auth_users:     name: bcrypt hash

A key of exporter-toolkit that is not supported is an error. As in exporter-toolkit, users and
client certificates protect every path, `/-/healthy` included: a liveness probe must send them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from celery_vitals.web.ciphers import SUITES
from celery_vitals.web.config_file import Document, HttpSection, TlsSection

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
# None: no certificate is requested; False: one that is sent is verified; True: one is required.
_CLIENT_AUTH: Mapping[str, bool | None] = {
    "NoClientCert": None,
    "VerifyClientCertIfGiven": False,
    "RequireAndVerifyClientCert": True,
}
_UNSUPPORTED: Mapping[str, str] = {
    "cert": "not supported: use cert_file",
    "key": "not supported: use key_file",
    "client_ca": "not supported: use client_ca_file",
    "curve_preferences": "not supported: OpenSSL's own order is used",
}


@dataclass(frozen=True)
class TlsConfig:
    """`tls_server_config`.

    `client_cert` is None, False or True: not requested, verified when sent, required. `ciphers` are
    OpenSSL's names for TLS 1.2; empty means OpenSSL's default.
    """

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_cert: bool | None = None
    client_allowed_sans: tuple[str, ...] = ()
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: tuple[str, ...] = ()
    prefer_server_ciphers: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the TLS context is loaded from."""
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path)


@dataclass(frozen=True)
class WebConfig:
    """The content of the file; `users` maps a name to its bcrypt hash, both as sent by clients."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)


def read(path: Path) -> WebConfig:
    """Read the file at `path`; relative paths in it start from its folder.

    Raises WebConfigError.
    """
    document = Document(path)
    parsed = document.parse()
    if parsed.rate_limit:
        raise document.error(
            "rate_limit", "not supported: --web.max-requests limits concurrent scrapes"
        )
    tls = parsed.tls_server_config
    return WebConfig(
        _tls(document, tls, path.parent) if tls else None,
        _headers(parsed.http_server_config),
        _users(document, parsed.basic_auth_users),
    )


def _tls(document: Document, section: TlsSection, folder: Path) -> TlsConfig:
    for key, problem in _UNSUPPORTED.items():
        if getattr(section, key):
            raise document.error(f"tls_server_config.{key}", problem)
    for key in ("cert_file", "key_file"):
        if not getattr(section, key):
            raise document.error(f"tls_server_config.{key}", "missing")
    if section.min_version > section.max_version:
        raise document.error("tls_server_config.min_version", "must not be above max_version")
    return TlsConfig(
        cert_file=folder / section.cert_file,
        key_file=folder / section.key_file,
        client_ca_file=folder / section.client_ca_file if section.client_ca_file else None,
        client_cert=_client_cert(document, section),
        client_allowed_sans=section.client_allowed_sans,
        min_version=section.min_version,
        max_version=section.max_version,
        ciphers=_ciphers(document, section.cipher_suites),
        prefer_server_ciphers=section.prefer_server_cipher_suites,
    )


def _client_cert(document: Document, section: TlsSection) -> bool | None:
    key, auth_type = "tls_server_config.client_auth_type", section.client_auth_type
    if auth_type not in _CLIENT_AUTH:
        raise document.error(
            key,
            f"{auth_type} accepts unverified certificates, which is not supported:"
            " use RequireAndVerifyClientCert",
        )
    mode, key = _CLIENT_AUTH[auth_type], "tls_server_config.client_ca_file"
    if mode is not None and not section.client_ca_file:
        raise document.error(key, f"missing: required by client_auth_type {auth_type}")
    if mode is None and section.client_ca_file:
        raise document.error(key, "has no effect without client_auth_type")
    if section.client_allowed_sans and not mode:
        raise document.error(
            "tls_server_config.client_allowed_sans",
            "requires client_auth_type RequireAndVerifyClientCert",
        )
    return mode


def _ciphers(document: Document, names: tuple[str, ...]) -> tuple[str, ...]:
    key = "tls_server_config.cipher_suites"
    for index, name in enumerate(names):
        if name not in SUITES:
            raise document.error(
                key, f"unknown or insecure cipher suite (expected: {', '.join(SUITES)})", index
            )
    # TLS 1.3 has no weak suites and, as in Go, no choice: naming them changes nothing.
    chosen = tuple(SUITES[name] for name in names if SUITES[name])
    if names and not chosen:
        raise document.error(
            key, "must include a suite of TLS 1.2: those of TLS 1.3 are always enabled"
        )
    return chosen


def _headers(section: HttpSection) -> dict[str, str]:
    headers: dict[str, str | None] = msgspec.to_builtins(section.headers)
    return {name: value for name, value in headers.items() if value is not None}


def _users(document: Document, users: Mapping[str, object]) -> dict[bytes, bytes]:
    """Check the users.  A name is not shown in an error, as it may be a misplaced password."""
    checked: dict[bytes, bytes] = {}
    for name, hashed in users.items():
        if ":" in name:
            raise document.error("basic_auth_users", "a user name must not contain a colon", name)
        if not (isinstance(hashed, str) and _BCRYPT.fullmatch(hashed)):
            problem = "must be a bcrypt hash (create one with: htpasswd -nBC 10 NAME)"
            raise document.error("basic_auth_users", problem, name)
        checked[name.encode()] = hashed.encode()
    return checked
