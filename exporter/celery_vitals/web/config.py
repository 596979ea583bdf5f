"""The web configuration file, in the format of Prometheus' exporter-toolkit.

    tls_server_config:    certificate, key, client certificates, versions, ciphers
    http_server_config:   response headers
    basic_auth_users:     name: bcrypt hash

What is known there but cannot be done here is refused, not ignored.  As there, users and client certificates guard
every path, `/-/healthy` too: a liveness probe has to send them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from celery_vitals.web.ciphers import openssl_name
from celery_vitals.web.sections import Fault, Section

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
# Which headers may be set, and to what; None is any value.
_HEADERS: Mapping[str, tuple[str, ...] | None] = {
    "Content-Security-Policy": None,
    "Strict-Transport-Security": None,
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": None,
}
_VERSIONS = ("TLS12", "TLS13")
# What is asked of a client's certificate: None is nothing, False checks one that is sent, True demands one.
_CLIENT_AUTH: Mapping[str, bool | None] = {
    "NoClientCert": None,
    "VerifyClientCertIfGiven": False,
    "RequireAndVerifyClientCert": True,
}
_UNCHECKED_CLIENT_AUTH = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_REFUSED: Mapping[str, str] = {
    "cert": "is not supported: use cert_file",
    "key": "is not supported: use key_file",
    "client_ca": "is not supported: use client_ca_file",
    "curve_preferences": "is not supported: OpenSSL's own order is used",
}


@dataclass(frozen=True)
class TlsConfig:
    """`tls_server_config`.

    `client_cert` is None, False or True for: not asked for, checked when sent, demanded.  `ciphers` are OpenSSL's
    names for TLS 1.2; none means its default.
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
        """Every file that it is made of."""
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path)


@dataclass(frozen=True)
class WebConfig:
    """The file as read.  `users` maps a name to its bcrypt hash, both as they come over the wire."""

    tls: TlsConfig | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)


def read(path: Path) -> WebConfig:
    """The file at `path`; relative paths in it start from its folder.  Raises Fault."""
    top = Section("", _content(path))
    tls = Section("tls_server_config", top.take("tls_server_config"))
    http = Section("http_server_config", top.take("http_server_config"))
    users = Section("basic_auth_users", top.take("basic_auth_users"))
    if top.take("rate_limit"):
        top.refuse(
            "rate_limit", "is not supported: --web.max-requests limits the scrapes that run at once"
        )
    top.end()
    return WebConfig(_tls(tls, path.parent) if tls.left else None, _headers(http), _users(users))


def _content(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Fault(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Fault("is not UTF-8 text") from None
    except yaml.YAMLError as error:
        # Only the place: the parser's own words quote the line, and the line may hold a secret.
        mark = getattr(error, "problem_mark", None)
        raise Fault(f"is not YAML (line {mark.line + 1})" if mark else "is not YAML") from None


def _tls(section: Section, folder: Path) -> TlsConfig:
    for key, why in _REFUSED.items():
        if section.take(key):
            section.refuse(key, why)
    cert, key_file, client_ca = (
        section.take(key, str) for key in ("cert_file", "key_file", "client_ca_file")
    )
    if not cert or not key_file:
        section.refuse("cert_file" if not cert else "key_file", "is missing")
    client_cert, sans = _client_auth(section, client_ca)
    lowest, highest = _versions(section)
    config = TlsConfig(
        cert_file=folder / cert,
        key_file=folder / key_file,
        client_ca_file=folder / client_ca if client_ca else None,
        client_cert=client_cert,
        client_allowed_sans=sans,
        min_version=lowest,
        max_version=highest,
        ciphers=_ciphers(section),
        prefer_server_ciphers=section.take("prefer_server_cipher_suites", bool, True),
    )
    section.end()
    return config


def _client_auth(section: Section, client_ca: str | None) -> tuple[bool | None, tuple[str, ...]]:
    kind = section.take("client_auth_type", str, "NoClientCert")
    if kind in _UNCHECKED_CLIENT_AUTH:
        why = "takes certificates that nobody checks, which is not supported: use RequireAndVerifyClientCert"
        section.refuse("client_auth_type", f"{kind} {why}")
    if kind not in _CLIENT_AUTH:
        section.refuse("client_auth_type", f"must be one of {', '.join(_CLIENT_AUTH)}")
    wanted = _CLIENT_AUTH[kind]
    if wanted is not None and not client_ca:
        section.refuse("client_ca_file", f"is missing: client_auth_type is {kind}")
    if wanted is None and client_ca:
        section.refuse("client_ca_file", "is given, but no client_auth_type that uses it")
    sans = section.texts("client_allowed_sans")
    if sans and not wanted:
        section.refuse(
            "client_allowed_sans", "needs the client_auth_type RequireAndVerifyClientCert"
        )
    return wanted, sans


def _versions(section: Section) -> tuple[str, str]:
    lowest = section.take("min_version", str, "TLS12")
    highest = section.take("max_version", str, "TLS13")
    for key, version in (("min_version", lowest), ("max_version", highest)):
        if version not in _VERSIONS:
            section.refuse(key, f"must be one of {', '.join(_VERSIONS)}")
    if lowest > highest:
        section.refuse("min_version", "is above max_version")
    return lowest, highest


def _ciphers(section: Section) -> tuple[str, ...]:
    names = section.texts("cipher_suites")
    try:
        known = tuple(openssl_name(name) for name in names)
    except KeyError as error:
        section.refuse("cipher_suites", f"has {error.args[0]!r}, which is not known, or not secure")
    # TLS 1.3 has no weak ciphers and, as in Go, no choice of them: its names change nothing.
    chosen = tuple(name for name in known if name)
    if names and not chosen:
        section.refuse("cipher_suites", "has no cipher of TLS 1.2, which is all that it applies to")
    return chosen


def _headers(section: Section) -> dict[str, str]:
    section.take(
        "http2", bool
    )  # this server speaks HTTP/1.1, which every client of HTTP/2 falls back to
    headers = Section("http_server_config.headers", section.take("headers"))
    section.end()
    found: dict[str, str] = {}
    for name in headers.left:
        if name not in _HEADERS:
            headers.refuse(name, f"cannot be set: only {', '.join(_HEADERS)}")
        value, allowed = headers.take(name, str), _HEADERS[name]
        if value is None:
            continue
        if allowed and value not in allowed:
            headers.refuse(name, f"must be {' or '.join(allowed)}")
        if not (value.isascii() and value.isprintable()):
            headers.refuse(name, "must be one line of ASCII")
        found[name] = value
    return found


def _users(section: Section) -> dict[bytes, bytes]:
    users: dict[bytes, bytes] = {}
    for name in section.left:
        if ":" in name:
            section.refuse(name, "cannot be a user name: it has a colon")
        hashed = section.take(name, str, "")
        if not _BCRYPT.fullmatch(hashed):
            section.refuse(name, "is not a bcrypt hash (try: htpasswd -nBC 10 NAME)")
        users[name.encode()] = hashed.encode()
    return users
