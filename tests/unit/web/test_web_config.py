"""The web configuration file: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest
import trustme

from celery_vitals.errors import ConfigError
from celery_vitals.web.config import read
from celery_vitals.web.config_reload import LiveConfig

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
PAIR = "tls_server_config: {cert_file: server.pem, key_file: server.key"

BAD: dict[str, tuple[str, str]] = {
    "no mapping": ("- a\n- b", "the file must be a mapping of names to values"),
    "no YAML": ("a: b\nbasic_auth_users: {x: 's3cret", "is not YAML (line 2)"),
    "unknown section": ("tls_config: {}", "tls_config is not a known key"),
    "rate limit": (
        "rate_limit: {interval: 1s, burst: 2}",
        "rate_limit is not supported: --web.max-requests limits the scrapes that run at once",
    ),
    "section of text": (
        "tls_server_config: yes please",
        "tls_server_config must be a mapping of names to values",
    ),
    "number as key": (
        "basic_auth_users: {1: a}",
        "basic_auth_users must be a mapping of names to values",
    ),
    "unknown TLS key": (PAIR + ", certfile: x}", "tls_server_config.certfile is not a known key"),
    "no certificate": (
        "tls_server_config: {key_file: server.key}",
        "tls_server_config.cert_file is missing",
    ),
    "no key": (
        "tls_server_config: {cert_file: server.pem}",
        "tls_server_config.key_file is missing",
    ),
    "TLS without files": (
        "tls_server_config: {min_version: TLS13}",
        "tls_server_config.cert_file is missing",
    ),
    "certificate not there": (
        "tls_server_config: {cert_file: none.pem, key_file: server.key}",
        "tls_server_config.cert_file: {folder}/none.pem: No such file or directory",
    ),
    "key not there": (
        "tls_server_config: {cert_file: server.pem, key_file: none.key}",
        "tls_server_config.key_file: {folder}/none.key: No such file or directory",
    ),
    "certificate is a folder": (
        "tls_server_config: {cert_file: ., key_file: server.key}",
        "tls_server_config.cert_file: {folder}: Is a directory",
    ),
    "key of another certificate": (
        "tls_server_config: {cert_file: server.pem, key_file: other.key}",
        "tls_server_config: cert_file and key_file are not PEM or do not belong together: KEY_VALUES_MISMATCH",
    ),
    "certificate is text": (
        "tls_server_config: {cert_file: web.yml, key_file: server.key}",
        "tls_server_config: cert_file and key_file are not PEM or do not belong together",
    ),
    "key is encrypted": (
        "tls_server_config: {cert_file: server.pem, key_file: encrypted.key}",
        "tls_server_config.key_file is encrypted, which is not supported",
    ),
    "inline certificate": (
        PAIR + ", cert: x}",
        "tls_server_config.cert is not supported: use cert_file",
    ),
    "inline key": (PAIR + ", key: s3cret}", "tls_server_config.key is not supported: use key_file"),
    "inline CA": (
        PAIR + ", client_ca: x}",
        "tls_server_config.client_ca is not supported: use client_ca_file",
    ),
    "curves": (
        PAIR + ", curve_preferences: [X25519]}",
        "tls_server_config.curve_preferences is not supported: OpenSSL's own order is used",
    ),
    "unknown version": (
        PAIR + ", min_version: TLS11}",
        "tls_server_config.min_version must be one of TLS12, TLS13",
    ),
    "versions crossed": (
        PAIR + ", min_version: TLS13, max_version: TLS12}",
        "tls_server_config.min_version is above max_version",
    ),
    "unknown cipher": (
        PAIR + ", cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]}",
        "tls_server_config.cipher_suites has 'TLS_RSA_WITH_RC4_128_SHA', which is not known, or not secure",
    ),
    "ciphers of TLS 1.3 only": (
        PAIR + ", cipher_suites: [TLS_AES_128_GCM_SHA256]}",
        "tls_server_config.cipher_suites has no cipher of TLS 1.2, which is all that it applies to",
    ),
    "ciphers as text": (
        PAIR + ", cipher_suites: abc}",
        "tls_server_config.cipher_suites must be a list",
    ),
    "ciphers as numbers": (
        PAIR + ", cipher_suites: [1]}",
        "tls_server_config.cipher_suites must be a list of texts",
    ),
    "preference as text": (
        PAIR + ", prefer_server_cipher_suites: maybe}",
        "tls_server_config.prefer_server_cipher_suites must be true or false",
    ),
    "unknown client_auth_type": (
        PAIR + ", client_auth_type: Always}",
        "tls_server_config.client_auth_type must be one of"
        " NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert",
    ),
    "certificates nobody checks": (
        PAIR + ", client_auth_type: RequireAnyClientCert}",
        "tls_server_config.client_auth_type RequireAnyClientCert takes certificates that nobody checks,"
        " which is not supported: use RequireAndVerifyClientCert",
    ),
    "certificates nobody needs": (
        PAIR + ", client_auth_type: RequestClientCert, client_ca_file: ca.pem}",
        "tls_server_config.client_auth_type RequestClientCert takes certificates that nobody checks,"
        " which is not supported: use RequireAndVerifyClientCert",
    ),
    "no CA": (
        PAIR + ", client_auth_type: RequireAndVerifyClientCert}",
        "tls_server_config.client_ca_file is missing: client_auth_type is RequireAndVerifyClientCert",
    ),
    "CA without policy": (
        PAIR + ", client_ca_file: ca.pem}",
        "tls_server_config.client_ca_file is given, but no client_auth_type that uses it",
    ),
    "CA is a key": (
        PAIR + ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: server.key}",
        "tls_server_config.client_ca_file has no certificate in PEM",
    ),
    "names without certificate": (
        PAIR
        + ", client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem, client_allowed_sans: [a]}",
        "tls_server_config.client_allowed_sans needs the client_auth_type RequireAndVerifyClientCert",
    ),
    "unknown HTTP key": (
        "http_server_config: {http3: true}",
        "http_server_config.http3 is not a known key",
    ),
    "http2 as text": (
        "http_server_config: {http2: some}",
        "http_server_config.http2 must be true or false",
    ),
    "header not allowed": (
        "http_server_config: {headers: {Server: x}}",
        "http_server_config.headers.Server cannot be set: only Content-Security-Policy, Strict-Transport-Security,"
        " X-Content-Type-Options, X-Frame-Options, X-XSS-Protection",
    ),
    "header value": (
        "http_server_config: {headers: {X-Frame-Options: allow}}",
        "http_server_config.headers.X-Frame-Options must be deny or sameorigin",
    ),
    "header of two lines": (
        'http_server_config: {headers: {X-XSS-Protection: "1\\r\\nSet-Cookie: a"}}',
        "http_server_config.headers.X-XSS-Protection must be one line of ASCII",
    ),
    "header as number": (
        "http_server_config: {headers: {X-XSS-Protection: 1}}",
        "http_server_config.headers.X-XSS-Protection must be a text",
    ),
    "password in clear": (
        "basic_auth_users: {alice: s3cret}",
        "basic_auth_users.alice is not a bcrypt hash (try: htpasswd -nBC 10 NAME)",
    ),
    "no password": (
        "basic_auth_users: {alice: }",
        "basic_auth_users.alice is not a bcrypt hash (try: htpasswd -nBC 10 NAME)",
    ),
    "password as number": (
        "basic_auth_users: {alice: 1234}",
        "basic_auth_users.alice must be a text",
    ),
    "hash cut short": (
        f"basic_auth_users: {{alice: {HASH[:-1]}}}",
        "basic_auth_users.alice is not a bcrypt hash (try: htpasswd -nBC 10 NAME)",
    ),
    "colon in a name": (
        f'basic_auth_users: {{"a:b": {HASH}}}',
        "basic_auth_users.a:b cannot be a user name: it has a colon",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates, and room for a web.yml."""
    from cryptography.hazmat.primitives import serialization

    path = tmp_path_factory.mktemp("web")
    ca = trustme.CA()
    server, other = ca.issue_cert("localhost"), ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(path / "ca.pem")
    server.cert_chain_pems[0].write_to_path(path / "server.pem")
    server.private_key_pem.write_to_path(path / "server.key")
    other.private_key_pem.write_to_path(path / "other.key")
    key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None)
    lock = serialization.BestAvailableEncryption(b"pass")
    form = serialization.PrivateFormat.PKCS8
    (path / "encrypted.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, lock))
    return path


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_line(folder: Path, name: str) -> None:
    content, line = BAD[name]
    file = folder / "web.yml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        LiveConfig(file)
    assert (
        str(caught.value) == f"--web.config.file: {file}: {line.replace('{folder}', str(folder))}"
    )
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web.yml: cannot be read: No such file or directory$"):
        LiveConfig(tmp_path / "web.yml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"web.yml: is not UTF-8 text$"):
        LiveConfig(tmp_path / "web.yml")


@pytest.mark.parametrize(
    "content", ["", "tls_server_config:", "tls_server_config: {}\nbasic_auth_users: {}", "# a"]
)
def test_nothing_set(tmp_path: Path, content: str) -> None:
    (tmp_path / "web.yml").write_text(content)
    loaded = LiveConfig(tmp_path / "web.yml").current()
    assert loaded.context is None
    assert (loaded.config.headers, loaded.config.users) == ({}, {})


def test_all_that_can_be_set(folder: Path) -> None:
    file = folder / "web.yml"
    file.write_text(
        f"""
        tls_server_config:
          cert_file: server.pem
          key_file: {folder}/server.key
          client_auth_type: RequireAndVerifyClientCert
          client_ca_file: ca.pem
          client_allowed_sans: [prometheus.example]
          min_version: TLS12
          max_version: TLS12
          cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]
          prefer_server_cipher_suites: false
          curve_preferences: []
        http_server_config:
          http2: true
          headers:
            Strict-Transport-Security: max-age=1
            X-Frame-Options: ""
        basic_auth_users:
          alice: {HASH}
        """
    )
    config = read(file)
    assert config.tls is not None
    assert config.tls.cert_file == folder / "server.pem"
    assert config.tls.ciphers == ("ECDHE-RSA-AES256-GCM-SHA384",)
    assert config.headers == {"Strict-Transport-Security": "max-age=1"}
    assert config.users == {b"alice": HASH.encode()}
    assert HASH not in repr(config)
    context = LiveConfig(file).context()
    assert "ECDHE-RSA-AES256-GCM-SHA384" in {cipher["name"] for cipher in context.get_ciphers()}
    assert "ECDHE-RSA-AES128-GCM-SHA256" not in {cipher["name"] for cipher in context.get_ciphers()}
