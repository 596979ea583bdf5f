"""Basic authentication and response headers of the web configuration file."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from functools import partial

import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celery_vitals.web.config_reload import ReloadingConfig
from celery_vitals.web.headers import SECURITY
from celery_vitals.web.threads import in_thread

# bcrypt ignores the rest.  Truncating here makes all versions of the library agree.
_PASSWORD_BYTES = 72


class Authentication:
    """ASGI middleware: requires a user of the file on every path, and adds the file's headers."""

    def __init__(self, app: ASGIApp, config: ReloadingConfig) -> None:
        self._app = app
        self._config = config
        self._users = Users()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        config = self._config.current().config

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(config.headers)
            await send(message)

        allowed = not config.users or await self._users.authenticate(
            Headers(scope=scope).get("authorization"), config.users
        )
        await (self._app if allowed else _unauthorized())(scope, receive, send_with_headers)


class Users:
    """Checks credentials against bcrypt hashes.

    bcrypt is slow by design, so the last valid credentials of each user are cached, as a keyed
    digest.  A wrong password and an unknown user take the same time, and checks run one at a time.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._cache: dict[bytes, bytes] = {}
        self._lock = asyncio.Lock()

    async def authenticate(self, header: str | None, users: Mapping[bytes, bytes]) -> bool:
        """Return whether the Authorization `header` is valid for one of `users` (name to hash)."""
        name, password = _credentials(header)
        if name is None:
            return False
        # An unknown user is checked against the costliest hash, so that timing reveals nothing.
        hashed = users.get(name, max(users.values(), key=_cost))
        digest = hmac.digest(self._secret, hashlib.sha256(password).digest() + hashed, "sha256")
        if self._is_cached(name, digest):
            return name in users
        async with self._lock:
            if self._is_cached(name, digest):
                return name in users
            valid = await in_thread(partial(_matches, password, hashed), "bcrypt")
            if valid and name in users:
                self._cache[name] = digest
                return True
        return False

    def _is_cached(self, name: bytes, digest: bytes) -> bool:
        return hmac.compare_digest(self._cache.get(name, b""), digest)


def _credentials(header: str | None) -> tuple[bytes | None, bytes]:
    """Parse a Basic Authorization header; the name is None when it is malformed."""
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None, b""
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None, b""
    return (name if colon else None), password[:_PASSWORD_BYTES]


def _cost(hashed: bytes) -> bytes:
    return hashed[4:6]


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:  # a well-formed hash with an invalid salt
        return False


def _unauthorized() -> ASGIApp:
    headers = {**SECURITY, "WWW-Authenticate": 'Basic realm="celery-vitals", charset="UTF-8"'}
    return PlainTextResponse("Unauthorized\n", 401, headers)
