"""An authority, a server's certificate and a client's, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trustme

from .finding import HOST
from .process_reaper import process_reaper

CLIENT = "vitals-client"
"""The common name of the client's certificate."""


class Certificates:
    """Made anew for each server; the files go with the tests."""

    def __init__(self) -> None:
        self.folder = process_reaper().folder("certificates")
        self.folder.chmod(0o755)
        (
            self.authority,
            self.certificate,
            self.key,
            self.client_certificate,
            self.client_key,
            self.other_authority,
        ) = (
            self.folder / f"{name}.pem"
            for name in ("ca", "server", "server-key", "client", "client-key", "other_authority")
        )
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        trustme.CA().cert_pem.write_to_path(
            str(self.other_authority)
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
        """Return `broker_use_ssl` for Redis, with values that JSON has."""
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
