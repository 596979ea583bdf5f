"""Secrets are never printed, and are redacted from foreign text."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from json import dumps
from urllib.parse import quote, quote_plus

import pytest

from celery_vitals.secrets import Redactor, redact_urls, without_credentials
from celery_vitals.settings import Secret, Settings
from celery_vitals.settings.options import RedactedMapping

PASSWORDS = ["p@ss:w/o?r#d%1", "hunter2", 'quo"te\\back', "spa ce+plus", "pässwörd", "%41%42", "x"]


def quoted(password: str) -> str:
    return "".join(f"%{byte:02x}" for byte in password.encode())


@pytest.mark.parametrize("password", PASSWORDS)
def test_secret_is_never_printed(password: str) -> None:
    url = f"redis://:{quoted(password)}@localhost"
    settings = Settings(
        broker_url=Secret(url), broker_transport_options={"sentinel_kwargs": {"password": password}}
    )
    secret = settings.broker_url
    shown = [
        repr(settings),
        str(settings),
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>30}",
        f"{secret!r}",
    ]
    shown += [
        f"{[secret]} {(secret,)}",
        repr(dataclasses.asdict(settings)),
        repr(copy.deepcopy(settings)),
    ]
    for text in shown:
        assert quoted(password) not in text
        assert password == "x" or password not in text
    assert repr(secret) == "Secret('***')"
    assert repr(settings.broker_transport_options) == "RedactedMapping(sentinel_kwargs)"
    assert secret is not None
    assert secret.reveal() == url


def test_a_secret_cannot_be_pickled() -> None:
    for value in (Secret("s3cret"), Settings(broker_url=Secret("redis://:s3cret@h"))):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError, match="pickled"):
                pickle.dumps(value, protocol)


def test_secrets_compare_by_value() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert Secret("a") != "a"


def test_options_cannot_be_changed_from_outside() -> None:
    given = {"a": 1}
    options = RedactedMapping(given)
    given["a"] = 2
    assert (dict(options), len(options)) == ({"a": 1}, 1)


def test_secrets_of_the_settings() -> None:
    settings = Settings(
        broker_url=Secret("redis://:a@h"),
        rabbitmq_management_url=Secret("http://u:b@h"),
        broker_transport_options={
            "visibility_timeout": 1,
            "sentinel_kwargs": {"password": "c"},
            "region": "d",
        },
    )
    assert {secret.reveal() for secret in settings.secrets()} == {
        "redis://:a@h",
        "http://u:b@h",
        "c",
    }


@pytest.mark.parametrize("password", PASSWORDS)
def test_redactor_removes_quoted_passwords(password: str) -> None:
    redact = Redactor([Secret(f"amqp://user:{quoted(password)}@host//")])
    forms = [
        password,
        quoted(password),
        quoted(password).upper(),
        quote(password),
        quote(password, safe=""),
    ]
    forms += [
        quote_plus(password),
        repr(password)[1:-1],
        dumps(password)[1:-1],
        ascii(password)[1:-1],
    ]
    for form in forms:
        assert redact(f"wrong password ({form})!") == "wrong password (***)!"


def test_redactor_keeps_words_that_contain_a_short_password() -> None:
    redact = Redactor([Secret("redis://:celery@h")])
    assert redact("celery_vitals of celeryproject: celery") == "celery_vitals of celeryproject: ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach redis://:pw@h:1/0", "cannot reach redis://***@h:1/0"),
        ("redis://u:p@ss@h/0?password=pw&db=1", "redis://***@h/0?password=***&db=1"),
        ("'amqp://a:b@c//' and 'amqp://d:e@f//'", "'amqp://***@c//' and 'amqp://***@f//'"),
        ("https://h/?visible=1 celery@worker", "https://h/?visible=1 celery@worker"),
    ],
)
def test_urls_in_text_lose_their_credentials(text: str, shown: str) -> None:
    assert redact_urls(text) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pw@h:6379/0", "redis://h:6379/0"),
        ("redis://u:p@s/s#w?d@h:6379/0?password=x#y", "redis://h:6379/0"),
        ("sentinel://:pw@a:1/0;sentinel://:pw@b:2/0", "sentinel://a:1/0;sentinel://b:2/0"),
        ("amqp://u:p@[::1]:5672/my%2Fhost", "amqp://[::1]:5672/my%2Fhost"),
        ("sqla+postgresql://u:p@h/db", "sqla+postgresql://h/db"),
        ("azureblockblob://Protocol=https;AccountKey=abc==", "azureblockblob://***"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
        ("rpc", "rpc"),
        ("s3cret@host", "***"),
        ("", "***"),
        ("redis://:12;s3cret@h", "redis://h"),
        ("sentinel://:s3cret@a:1;b:2;sentinel://c", "sentinel://a:1;b:2;sentinel://c"),
        ("mongodb://u:p@a:1,b:2/db", "mongodb://a:1,b:2/db"),
    ],
)
def test_url_without_credentials(url: str, shown: str) -> None:
    assert without_credentials(url) == shown
