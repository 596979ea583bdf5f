"""TLS contexts of the web configuration."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from celery_vitals.web.config import TlsConfig
from celery_vitals.web.config_file import WebConfigError

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_SECTION = "tls_server_config"
_VERIFY = {None: ssl.CERT_NONE, False: ssl.CERT_OPTIONAL, True: ssl.CERT_REQUIRED}


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """Build the context for new connections.

    Raises WebConfigError for files that are missing, invalid, or do not match.
    """
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
        reason = f": {error.reason}" if error.reason else ""
        raise WebConfigError(
            f"cert_file and key_file must be PEM files that match{reason}", _SECTION
        ) from None


def _load_client_ca(context: ssl.SSLContext, config: TlsConfig) -> None:
    context.verify_mode = _VERIFY[config.client_cert]
    if config.client_ca_file is None:
        return
    _check_readable("client_ca_file", config.client_ca_file)
    try:
        context.load_verify_locations(config.client_ca_file)
    except ssl.SSLError:
        raise WebConfigError(
            "must contain a PEM certificate", f"{_SECTION}.client_ca_file"
        ) from None
    if config.client_allowed_sans:
        context.sslobject_class = _name_checking(config.client_allowed_sans)


def _check_readable(key: str, path: Path) -> None:
    # OpenSSL's errors name neither the file nor the reason.
    try:
        path.read_bytes()
    except OSError as error:
        raise WebConfigError(f"cannot read {path}: {error.strerror}", f"{_SECTION}.{key}") from None


def _no_password() -> str:
    # Without this callback OpenSSL prompts on the terminal and blocks.
    raise WebConfigError("encrypted keys are not supported", f"{_SECTION}.key_file")


def _name_checking(names: Sequence[str]) -> type[ssl.SSLObject]:
    """Build a connection type whose client must present one of `names` as a SAN."""
    allowed = frozenset(map(_canonical, names))

    class NameChecking(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            certificate: dict[str, Any] = self.getpeercert() or {}
            if allowed.isdisjoint(
                _canonical(value) for _, value in certificate.get("subjectAltName", ())
            ):
                raise ssl.SSLCertVerificationError(
                    "the client certificate has none of client_allowed_sans"
                )

    return NameChecking


def _canonical(name: str) -> str:
    """Normalize IP addresses: OpenSSL writes ::1 as `0:0:0:0:0:0:0:1`."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name


class ReloadingContext(ssl.SSLContext):
    """A context that wraps each new connection with the context that is current at that time.

    Loading a new certificate into a context in use could combine the new certificate with the old
    key, and could not change the verification of clients.
    """

    _current: Callable[[], ssl.SSLContext]

    def __new__(cls, current: Callable[[], ssl.SSLContext]) -> ReloadingContext:
        """Create a context that serves as a type only: its own settings are never used."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        context._current = current
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Wrap with the current context."""
        return self._current().wrap_bio(*args, **kwargs)
