"""The web configuration file: valid and invalid content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest
import trustme
import yaml

from celery_vitals.errors import ConfigError
from celery_vitals.web.ciphers import SUITES
from celery_vitals.web.config import read
from celery_vitals.web.config_reload import ReloadingConfig

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
PAIR = "tls_server_config: {cert_file: server.pem, key_file: server.key"

TLS_KEYS = (
    "cert_file, key_file, client_auth_type, client_ca_file, client_allowed_sans, min_version,"
    " max_version, cipher_suites, prefer_server_cipher_suites, cert, key, client_ca,"
    " curve_preferences"
)
TOP_KEYS = "tls_server_config, http_server_config, basic_auth_users, rate_limit"
HEADERS = (
    "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options,"
    " X-Frame-Options, X-XSS-Protection"
)
NO_HASH = ":1: basic_auth_users: must be a bcrypt hash (create one with: htpasswd -nBC 10 NAME)"
USERS = ":1: basic_auth_users: must be a mapping of user names to bcrypt hashes"
UNVERIFIED = (
    "accepts unverified certificates, which is not supported: use RequireAndVerifyClientCert"
)

BAD: dict[str, tuple[str, str]] = {
    "no mapping": ("- a\n- b", f":1: must be a mapping with the keys {TOP_KEYS}"),
    "no YAML": ("a: b\nbasic_auth_users: {x: 's3cret", ":2: not valid YAML"),
    "invalid date": ("a: 2020-13-45", ": not valid YAML"),
    "empty integer": ("a: !!int ''", ": not valid YAML"),
    "boolean that is none": ("a: !!bool s3cret", ": not valid YAML"),
    "timestamp that is none": ("a: !!timestamp s3cret", ": not valid YAML"),
    "control character": ("a: \x01", ": not valid YAML"),
    "null character in a path": (
        'tls_server_config: {cert_file: "s3cret\\0", key_file: server.key}',
        ": a key or a value contains an invalid character",
    ),
    "surrogate in a path": (
        'tls_server_config: {cert_file: "s3cret\\ud800", key_file: server.key}',
        ": a key or a value contains an invalid character",
    ),
    "surrogate in a user name": (
        f'basic_auth_users: {{"s3cret\\ud800": "{HASH}"}}',
        ": a key or a value contains an invalid character",
    ),
    "unknown section": ("tls_config: {}", f":1: unknown key (expected one of: {TOP_KEYS})"),
    "unknown key without a value": ("s3cret:", f":1: unknown key (expected one of: {TOP_KEYS})"),
    "unknown TLS key without a value": (
        PAIR + ", certfile: }",
        f":1: tls_server_config: unknown key (expected one of: {TLS_KEYS})",
    ),
    "empty mapping as path": (
        "tls_server_config: {cert_file: {}, key_file: server.key}",
        ":1: tls_server_config.cert_file: must be a string",
    ),
    "unknown section further down": (
        "\nbasic_auth_users: {}\ns3cret: x",
        f":3: unknown key (expected one of: {TOP_KEYS})",
    ),
    "rate limit": (
        "rate_limit: {interval: 1s, burst: 2}",
        ":1: rate_limit: not supported: --web.max-requests limits concurrent scrapes",
    ),
    "section of text": (
        "tls_server_config: yes please",
        f":1: tls_server_config: must be a mapping with the keys {TLS_KEYS}",
    ),
    "number as key": ("basic_auth_users: {1: a}", USERS),
    "unknown TLS key": (
        PAIR + ", certfile: x}",
        f":1: tls_server_config: unknown key (expected one of: {TLS_KEYS})",
    ),
    "no certificate": (
        "tls_server_config: {key_file: server.key}",
        ":1: tls_server_config.cert_file: missing",
    ),
    "no key": (
        "tls_server_config: {cert_file: server.pem}",
        ":1: tls_server_config.key_file: missing",
    ),
    "blank certificate and key": (
        "tls_server_config: {cert_file: , key_file: ''}",
        ":1: tls_server_config.cert_file: missing",
    ),
    "TLS without files": (
        "tls_server_config: {min_version: TLS13}",
        ":1: tls_server_config.cert_file: missing",
    ),
    "certificate not there": (
        "tls_server_config: {cert_file: none.pem, key_file: server.key}",
        ": tls_server_config.cert_file: cannot read {folder}/none.pem: No such file or directory",
    ),
    "key not there": (
        "tls_server_config: {cert_file: server.pem, key_file: none.key}",
        ": tls_server_config.key_file: cannot read {folder}/none.key: No such file or directory",
    ),
    "certificate is a folder": (
        "tls_server_config: {cert_file: ., key_file: server.key}",
        ": tls_server_config.cert_file: cannot read {folder}: Is a directory",
    ),
    "key of another certificate": (
        "tls_server_config: {cert_file: server.pem, key_file: other.key}",
        ": tls_server_config: cert_file and key_file must be PEM files that match"
        ": KEY_VALUES_MISMATCH",
    ),
    "certificate is text": (
        "tls_server_config: {cert_file: web.yml, key_file: server.key}",
        ": tls_server_config: cert_file and key_file must be PEM files that match",
    ),
    "certificate is a number": (
        "tls_server_config: {cert_file: 1, key_file: server.key}",
        ":1: tls_server_config.cert_file: must be a string",
    ),
    "key is encrypted": (
        "tls_server_config: {cert_file: server.pem, key_file: encrypted.key}",
        ": tls_server_config.key_file: encrypted keys are not supported",
    ),
    "inline certificate": (
        PAIR + ", cert: x}",
        ":1: tls_server_config.cert: not supported: use cert_file",
    ),
    "inline key": (
        PAIR + ", key: s3cret}",
        ":1: tls_server_config.key: not supported: use key_file",
    ),
    "inline CA": (
        PAIR + ", client_ca: x}",
        ":1: tls_server_config.client_ca: not supported: use client_ca_file",
    ),
    "curves": (
        PAIR + ", curve_preferences: [X25519]}",
        ":1: tls_server_config.curve_preferences: not supported: OpenSSL's own order is used",
    ),
    "unknown version": (
        PAIR + ", min_version: TLS11}",
        ":1: tls_server_config.min_version: must be one of: TLS12, TLS13",
    ),
    "versions crossed": (
        PAIR + ", min_version: TLS13, max_version: TLS12}",
        ":1: tls_server_config.min_version: must not be above max_version",
    ),
    "unknown cipher": (
        PAIR + ",\n cipher_suites: [TLS_AES_128_GCM_SHA256,\n TLS_RSA_WITH_RC4_128_SHA]}",
        ":3: tls_server_config.cipher_suites: unknown or insecure cipher suite"
        f" (expected: {', '.join(SUITES)})",
    ),
    "ciphers of TLS 1.3 only": (
        PAIR + ", cipher_suites: [TLS_AES_128_GCM_SHA256]}",
        ":1: tls_server_config.cipher_suites: must include a suite of TLS 1.2"
        ": those of TLS 1.3 are always enabled",
    ),
    "ciphers as text": (
        PAIR + ", cipher_suites: abc}",
        ":1: tls_server_config.cipher_suites: must be a list of strings",
    ),
    "ciphers as numbers": (
        PAIR + ", cipher_suites: [1]}",
        ":1: tls_server_config.cipher_suites: must be a list of strings",
    ),
    "preference as text": (
        PAIR + ", prefer_server_cipher_suites: maybe}",
        ":1: tls_server_config.prefer_server_cipher_suites: must be true or false",
    ),
    "unknown client_auth_type": (
        PAIR + ", client_auth_type: Always}",
        ":1: tls_server_config.client_auth_type: must be one of: NoClientCert,"
        " VerifyClientCertIfGiven, RequireAndVerifyClientCert, RequestClientCert,"
        " RequireAnyClientCert, RequireClientCert",
    ),
    "unverified certificates required": (
        PAIR + ", client_auth_type: RequireAnyClientCert}",
        f":1: tls_server_config.client_auth_type: RequireAnyClientCert {UNVERIFIED}",
    ),
    "unverified certificates requested": (
        PAIR + ", client_auth_type: RequestClientCert, client_ca_file: ca.pem}",
        f":1: tls_server_config.client_auth_type: RequestClientCert {UNVERIFIED}",
    ),
    "no CA": (
        PAIR + ", client_auth_type: RequireAndVerifyClientCert}",
        ":1: tls_server_config.client_ca_file: missing"
        ": required by client_auth_type RequireAndVerifyClientCert",
    ),
    "CA without policy": (
        PAIR + ", client_ca_file: ca.pem}",
        ":1: tls_server_config.client_ca_file: has no effect without client_auth_type",
    ),
    "CA is a key": (
        PAIR + ", client_auth_type: RequireAndVerifyClientCert, client_ca_file: server.key}",
        ": tls_server_config.client_ca_file: must contain a PEM certificate",
    ),
    "names without certificate": (
        PAIR + ", client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem,"
        " client_allowed_sans: [a]}",
        ":1: tls_server_config.client_allowed_sans"
        ": requires client_auth_type RequireAndVerifyClientCert",
    ),
    "unknown HTTP key": (
        "http_server_config: {http3: true}",
        ":1: http_server_config: unknown key (expected one of: http2, headers)",
    ),
    "http2 as text": (
        "http_server_config: {http2: some}",
        ":1: http_server_config.http2: must be true or false",
    ),
    "header not allowed": (
        "http_server_config: {headers: {Server: x}}",
        f":1: http_server_config.headers: unknown key (expected one of: {HEADERS})",
    ),
    "header value": (
        "http_server_config: {headers: {X-Frame-Options: allow}}",
        ":1: http_server_config.headers.X-Frame-Options: must be one of: deny, sameorigin",
    ),
    "header of two lines": (
        'http_server_config: {headers: {X-XSS-Protection: "1\\r\\nSet-Cookie: a"}}',
        ":1: http_server_config.headers.X-XSS-Protection"
        ": must be one line of printable ASCII characters",
    ),
    "header with a final newline": (
        'http_server_config: {headers: {X-XSS-Protection: "1\\n"}}',
        ":1: http_server_config.headers.X-XSS-Protection"
        ": must be one line of printable ASCII characters",
    ),
    "header as number": (
        "http_server_config: {headers: {X-XSS-Protection: 1}}",
        ":1: http_server_config.headers.X-XSS-Protection"
        ": must be one line of printable ASCII characters",
    ),
    "password in clear": ("basic_auth_users: {alice: s3cret}", NO_HASH),
    "no password": ("basic_auth_users: {alice: }", NO_HASH),
    "password as number": ("basic_auth_users: {alice: 1234}", NO_HASH),
    "hash cut short": (f"basic_auth_users: {{alice: {HASH[:-1]}}}", NO_HASH),
    "second user": (
        f"basic_auth_users:\n  alice: {HASH}\n  bob: s3cret",
        NO_HASH.replace(":1:", ":3:"),
    ),
    "colon in a name": (
        f'basic_auth_users: {{"a:b": {HASH}}}',
        ":1: basic_auth_users: a user name must not contain a colon",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates, for a web.yml."""
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
def test_invalid_web_configuration_is_one_line(folder: Path, name: str) -> None:
    content, line = BAD[name]
    file = folder / "web.yml"
    file.write_text(content)
    with pytest.raises(ConfigError) as caught:
        ReloadingConfig(file)
    assert str(caught.value) == f"--web.config.file: {file}{line}".replace("{folder}", str(folder))
    assert "s3cret" not in str(caught.value)


SECRETS = {
    "password": "hunter2-hunter2",
    "bcrypt hash": HASH,
    "private key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
    "forged path": "x` - at `$.hunter2-hunter2`",
}
PLACES: dict[str, Callable[[str], object]] = {
    "whole file": lambda secret: secret,
    "list": lambda secret: [secret],
    "key of the file": lambda secret: {secret: "x"},
    "section": lambda secret: {"tls_server_config": secret},
    "key of a section": lambda secret: {"tls_server_config": {secret: "x"}},
    "path": lambda secret: {"tls_server_config": {"cert_file": [secret], "key_file": "x"}},
    "inline key": lambda secret: {
        "tls_server_config": {"cert_file": "x", "key_file": "x", "key": secret}
    },
    "enumeration": lambda secret: {"tls_server_config": {"min_version": secret}},
    "client auth type": lambda secret: {"tls_server_config": {"client_auth_type": secret}},
    "cipher": lambda secret: {
        "tls_server_config": {"cert_file": "x", "key_file": "x", "cipher_suites": [secret]}
    },
    "list in place of text": lambda secret: {"tls_server_config": {"cipher_suites": secret}},
    "boolean": lambda secret: {"http_server_config": {"http2": secret}},
    "header": lambda secret: {"http_server_config": {"headers": {secret: "x"}}},
    "value of a header": lambda secret: {
        "http_server_config": {"headers": {"X-Frame-Options": secret}}
    },
    "text of a header": lambda secret: {
        "http_server_config": {"headers": {"X-XSS-Protection": secret + "\n"}}
    },
    "users": lambda secret: {"basic_auth_users": secret},
    "list of users": lambda secret: {"basic_auth_users": [secret]},
    "user name": lambda secret: {"basic_auth_users": {secret: "x"}},
    "user name with a colon": lambda secret: {"basic_auth_users": {f"{secret}:": HASH}},
    "hash": lambda secret: {"basic_auth_users": {"alice": secret[:-1]}},
    "mapping in place of a hash": lambda secret: {"basic_auth_users": {"alice": {secret: secret}}},
    "rate limit": lambda secret: {"rate_limit": secret},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", SECRETS)
def test_errors_contain_no_misplaced_secret(tmp_path: Path, place: str, kind: str) -> None:
    file = tmp_path / "web.yml"
    file.write_text(yaml.safe_dump(PLACES[place](SECRETS[kind])))
    with pytest.raises(ConfigError) as caught:
        ReloadingConfig(file)
    shown = str(caught.value)
    assert shown.startswith(f"--web.config.file: {file}")
    assert shown.count("\n") == 0
    for part in (SECRETS[kind], SECRETS[kind][:-1], "hunter2", HASH[:12], "MIIEv"):
        assert part not in shown


def test_invalid_yaml_is_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    for content in ("a: !s3cret x", "*s3cret", "a: 's3cret", "s3cret: s3cret: x", "{s3cret"):
        file.write_text(content)
        with pytest.raises(ConfigError, match=r"web.yml:1: not valid YAML$"):
            ReloadingConfig(file)


def test_missing_web_configuration(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"web.yml: cannot read the file: No such file or directory$"
    ):
        ReloadingConfig(tmp_path / "web.yml")


def test_web_configuration_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"web.yml: not UTF-8 text$"):
        ReloadingConfig(tmp_path / "web.yml")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "tls_server_config:",
        "tls_server_config: {}\nbasic_auth_users: {}",
        "# a",
        "---\n",
        "null",
    ],
)
def test_empty_web_configuration(tmp_path: Path, content: str) -> None:
    (tmp_path / "web.yml").write_text(content)
    loaded = ReloadingConfig(tmp_path / "web.yml").current()
    assert loaded.context is None
    assert (loaded.config.headers, loaded.config.users) == ({}, {})


def test_every_key_of_the_web_configuration(folder: Path) -> None:
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
    context = ReloadingConfig(file).context()
    assert "ECDHE-RSA-AES256-GCM-SHA384" in {cipher["name"] for cipher in context.get_ciphers()}
    assert "ECDHE-RSA-AES128-GCM-SHA256" not in {cipher["name"] for cipher in context.get_ciphers()}
