"""TLS of the web configuration file, on a running server."""

from __future__ import annotations

import logging
import socket
import ssl
from pathlib import Path

import pytest
import trustme
import urllib3

from tests.unit.web.conftest import Running, Start


class Authority:
    """A CA, and a folder with its certificate for the server."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.ca.cert_pem.write_to_path(folder / "ca.pem")
        self.renew()

    def renew(self) -> None:
        """Replace the certificate as cert-manager does: one file, then the other."""
        issued = self.ca.issue_cert("127.0.0.1")
        for name, pem in (
            ("server.pem", issued.cert_chain_pems[0]),
            ("server.key", issued.private_key_pem),
        ):
            new = self.folder / f"{name}.new"
            pem.write_to_path(new)
            new.replace(self.folder / name)

    def config(self, *more: str) -> Path:
        pair = f"cert_file: {self.folder}/server.pem, key_file: server.key"
        (self.folder / "web.yml").write_text(f"tls_server_config: {{{', '.join([pair, *more])}}}")
        return self.folder / "web.yml"

    def client(self, *names: str, **versions: ssl.TLSVersion) -> ssl.SSLContext:
        """Build a client context that trusts this CA, with a certificate for `names`, if any."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if names:
            self.ca.issue_cert(*names).configure_cert(context)
        for name, version in versions.items():
            setattr(context, name, version)
        return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def get(server: Running, context: ssl.SSLContext, path: str = "/-/healthy") -> int:
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=5) as pool:
        return pool.request("GET", server.url + path, headers={"Connection": "close"}).status


def refused(server: Running, context: ssl.SSLContext) -> bool:
    try:
        return get(server, context) == 0
    except (urllib3.exceptions.HTTPError, ssl.SSLError):
        return True


def serial(server: Running, context: ssl.SSLContext) -> str:
    host, port = server.url.removeprefix("https://").split(":")
    with (
        socket.create_connection((host, int(port)), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        certificate = tls.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


def test_https(start: Start, authority: Authority) -> None:
    server = start(web_config_file=authority.config())
    assert server.url.startswith("https://127.0.0.1:")
    assert get(server, authority.client(), "/metrics") == 200
    assert refused(server, ssl.create_default_context())
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.PoolManager(retries=False, timeout=5).request(
            "GET", server.url.replace("https", "http")
        )


def test_versions(start: Start, authority: Authority) -> None:
    server = start(web_config_file=authority.config("min_version: TLS13"))
    assert refused(server, authority.client(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert get(server, authority.client()) == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificate_is_required(
    start: Start, authority: Authority, version: ssl.TLSVersion
) -> None:
    more = (
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
        f"max_version: {_name(version)}",
    )
    server = start(web_config_file=authority.config(*more))
    assert get(server, authority.client("client.example")) == 200
    assert refused(server, authority.client())
    untrusted = authority.client()
    trustme.CA().issue_cert("client.example").configure_cert(untrusted)
    assert refused(server, untrusted)


def test_a_client_certificate_is_checked_if_given(start: Start, authority: Authority) -> None:
    server = start(
        web_config_file=authority.config(
            "client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem"
        )
    )
    assert get(server, authority.client()) == 200
    assert get(server, authority.client("client.example")) == 200
    untrusted = authority.client()
    trustme.CA().issue_cert("client.example").configure_cert(untrusted)
    assert refused(server, untrusted)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_must_have_an_allowed_name(
    start: Start, authority: Authority, version: ssl.TLSVersion
) -> None:
    more = (
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
        'client_allowed_sans: [prometheus.example, "::1", 10.0.0.7, ops@example.org]',
        f"max_version: {_name(version)}",
    )
    server = start(web_config_file=authority.config(*more))
    for name in ("prometheus.example", "::1", "10.0.0.7", "ops@example.org"):
        assert get(server, authority.client(name, "more.example")) == 200, name
    for name in ("other.example", "sub.prometheus.example", "::2"):
        assert refused(server, authority.client(name)), name
    assert refused(server, authority.client())


def _name(version: ssl.TLSVersion) -> str:
    return {ssl.TLSVersion.TLSv1_2: "TLS12", ssl.TLSVersion.TLSv1_3: "TLS13"}[version]


def test_a_rotated_certificate_needs_no_restart(
    start: Start, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "celery_vitals")
    server = start(web_config_file=authority.config())
    context = authority.client()
    first = serial(server, context)
    assert serial(server, context) == first
    authority.renew()
    second = serial(server, context)
    assert second != first
    assert len([line for line in caplog.messages if "reloaded" in line]) == 1


def test_partial_rotation_keeps_the_old_certificate(
    start: Start, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(web_config_file=authority.config())
    context = authority.client()
    first = serial(server, context)
    old = (authority.folder / "server.key").read_bytes()
    authority.renew()
    new = (authority.folder / "server.key").read_bytes()
    (authority.folder / "server.key").write_bytes(old)
    for _ in range(3):
        assert serial(server, context) == first
    assert len([line for line in caplog.messages if "KEY_VALUES_MISMATCH" in line]) == 1
    (authority.folder / "server.key").write_bytes(new)
    assert serial(server, context) != first


def test_new_client_ca_takes_effect_immediately(start: Start, authority: Authority) -> None:
    more = ("client_auth_type: RequireAndVerifyClientCert", "client_ca_file: ca.pem")
    server = start(web_config_file=authority.config(*more))
    before, after = authority.client("client.example"), authority.client()
    assert get(server, before) == 200
    other = trustme.CA()
    other.issue_cert("client.example").configure_cert(after)
    other.cert_pem.write_to_path(authority.folder / "ca.pem")
    assert refused(server, before)
    assert get(server, after) == 200


def test_tls_cannot_be_disabled_by_reload(
    start: Start, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(web_config_file=authority.config())
    (authority.folder / "web.yml").write_text("")
    for _ in range(3):
        assert get(server, authority.client()) == 200
    assert [
        line for line in caplog.messages if "enabling or disabling TLS requires a restart" in line
    ] == caplog.messages
    assert len(caplog.messages) == 1
