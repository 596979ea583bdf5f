"""Messages of the serializer `auth` are used where a certificate of the app has signed them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from celery.security.serialization import register_auth
from kombu.serialization import dumps, registry

from celery_vitals.brokers.serialization import RejectedMessage, to_json

EVENT = {"type": "task-succeeded", "hostname": "w@h", "uuid": "u", "runtime": 0.5}


def register(certificate: trustme.LeafCert, trusted: Path) -> None:
    register_auth(
        key=certificate.private_key_pem.bytes(),
        cert=certificate.cert_chain_pems[0].bytes(),
        store=str(trusted / "*.pem"),
    )


def certificate_of_a_worker() -> trustme.LeafCert:
    return trustme.CA().issue_cert("worker.example", key_type=trustme.KeyType.RSA)


@pytest.fixture
def trusted(tmp_path: Path) -> Iterator[Path]:
    """The folder of the certificates that the app trusts; that of its worker is one of them."""
    certificate = certificate_of_a_worker()
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "worker.pem")
    register(certificate, tmp_path)
    yield tmp_path
    if "auth" in registry.name_to_type:
        registry.unregister("auth")


def signed() -> tuple[bytes, str, str]:
    kind, encoding, body = dumps([EVENT], serializer="auth")
    return body.encode() if isinstance(body, str) else body, kind, encoding


@pytest.mark.usefixtures("trusted")
def test_events_that_a_trusted_certificate_has_signed_are_decoded() -> None:
    assert json.loads(to_json(*signed())) == [EVENT]


def test_events_that_another_certificate_has_signed_are_rejected(trusted: Path) -> None:
    register(certificate_of_a_worker(), trusted)
    with pytest.raises(RejectedMessage, match="undecodable"):
        to_json(*signed())


@pytest.mark.usefixtures("trusted")
def test_signed_events_without_the_certificates_of_the_app_are_rejected() -> None:
    message = signed()
    registry.unregister("auth")
    with pytest.raises(RejectedMessage, match="content_type"):
        to_json(*message)
