"""An authority, a server's certificate and a client's, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme

from .finding import HOST
from .warden import warden

CLIENT = "vitals-client"
"""The common name of the client's certificate."""


class Certificates:
    """Made anew for each server; the files go with the tests."""

    def __init__(self) -> None:
        self.folder = warden().folder("certificates")
        self.folder.chmod(0o755)
        (
            self.authority,
            self.certificate,
            self.key,
            self.client_certificate,
            self.client_key,
            self.stranger,
        ) = (
            self.folder / f"{name}.pem"
            for name in ("ca", "server", "server-key", "client", "client-key", "stranger")
        )
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        trustme.CA().cert_pem.write_to_path(
            str(self.stranger)
        )  # an authority that has signed nothing here
        self._issue(authority.issue_cert(HOST, "localhost"), self.certificate, self.key)
        self._issue(
            authority.issue_cert(CLIENT, common_name=CLIENT),
            self.client_certificate,
            self.client_key,
        )

    @staticmethod
    def _issue(issued: trustme.LeafCert, certificate: Path, key: Path) -> None:
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        key.chmod(0o644)  # a server in a container reads it as another user

    def redis_options(self) -> dict[str, Any]:
        """What `broker_use_ssl` is for Redis, as JSON can say it."""
        return {
            "ssl_ca_certs": str(self.authority),
            "ssl_certfile": str(self.client_certificate),
            "ssl_keyfile": str(self.client_key),
            "ssl_cert_reqs": "required",
        }

    def amqp_options(self) -> dict[str, Any]:
        """What `broker_use_ssl` is for RabbitMQ."""
        return {
            "ca_certs": str(self.authority),
            "certfile": str(self.client_certificate),
            "keyfile": str(self.client_key),
            "server_hostname": HOST,
        }
