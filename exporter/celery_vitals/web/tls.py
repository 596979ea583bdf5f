"""TLS contexts from the configuration."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from celery_vitals.web.config import TlsConfig
from celery_vitals.web.sections import Fault

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_VERIFY = {None: ssl.CERT_NONE, False: ssl.CERT_OPTIONAL, True: ssl.CERT_REQUIRED}


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """The context for new connections.  Raises Fault for files that are missing, wrong, or do not go together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.maximum_version = _VERSIONS[config.max_version]
    context.set_alpn_protocols(["http/1.1"])
    if config.ciphers:
        context.set_ciphers(":".join(config.ciphers))
    if not config.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _load_certificate(context, config)
    _load_client_ca(context, config)
    return context


def _load_certificate(context: ssl.SSLContext, config: TlsConfig) -> None:
    _check_readable("cert_file", config.cert_file)
    _check_readable("key_file", config.key_file)
    try:
        context.load_cert_chain(config.cert_file, config.key_file, _no_password)
    except ssl.SSLError as error:
        why = f": {error.reason}" if error.reason else ""
        raise Fault(
            f"tls_server_config: cert_file and key_file are not PEM or do not belong together{why}"
        ) from None


def _load_client_ca(context: ssl.SSLContext, config: TlsConfig) -> None:
    context.verify_mode = _VERIFY[config.client_cert]
    if config.client_ca_file is None:
        return
    _check_readable("client_ca_file", config.client_ca_file)
    try:
        context.load_verify_locations(config.client_ca_file)
    except ssl.SSLError:
        raise Fault("tls_server_config.client_ca_file has no certificate in PEM") from None
    if config.client_allowed_sans:
        context.sslobject_class = _checking(frozenset(map(_canonical, config.client_allowed_sans)))


def _check_readable(key: str, path: Path) -> None:
    """OpenSSL's own errors name neither the file nor the reason."""
    try:
        path.read_bytes()
    except OSError as error:
        raise Fault(f"tls_server_config.{key}: {path}: {error.strerror}") from None


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal, and wait.
    raise Fault("tls_server_config.key_file is encrypted, which is not supported")


def _checking(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    """A connection whose client must have one of the `allowed` subject alternative names."""

    class Checking(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate: dict[str, Any] = self.getpeercert() or {}
            if allowed.isdisjoint(
                _canonical(value) for _, value in certificate.get("subjectAltName", ())
            ):
                raise ssl.SSLCertVerificationError(
                    "the client's certificate has none of client_allowed_sans"
                )

    return Checking


def _canonical(name: str) -> str:
    """A name, with IP addresses in one spelling: OpenSSL writes `0:0:0:0:0:0:0:1`."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


class LiveContext(ssl.SSLContext):
    """What the server is given: each new connection gets the context that is current then.

    Loading a new certificate into a context in use could leave it with the new certificate and the old key; and what
    is asked of clients could not be changed.
    """

    _current: Callable[[], ssl.SSLContext]

    def __new__(cls, current: Callable[[], ssl.SSLContext]) -> LiveContext:
        """A context of which nothing is used but its type."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context._current = current
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """As ssl.SSLContext.wrap_bio, of the current context."""
        return self._current().wrap_bio(*args, **kwargs)
