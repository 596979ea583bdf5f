"""Users and headers of the web configuration file, around the whole app."""

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

from celery_vitals.web.config_reload import LiveConfig
from celery_vitals.web.headers import SECURITY
from celery_vitals.web.threads import in_thread

# bcrypt looks at no more.  Cutting here gives every version of the library the same answer.
_PASSWORD_BYTES = 72


class Guard:
    """ASGI middleware: 401 without a user of the file, on every path; adds the headers of the file."""

    def __init__(self, app: ASGIApp, live: LiveConfig) -> None:
        self._app = app
        self._live = live
        self._users = Users()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        config = self._live.current().config

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(config.headers)
            await send(message)

        allowed = not config.users or await self._users.knows(
            Headers(scope=scope).get("authorization"), config.users
        )
        await (self._app if allowed else _unauthorized())(scope, receive, send_with_headers)


class Users:
    """Checks credentials against bcrypt hashes.

    bcrypt is slow on purpose, so the last good credentials of each user are remembered, as a keyed digest.  A wrong
    password and an unknown user cost the same time, and only one check runs at once.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._good: dict[bytes, bytes] = {}
        self._turn = asyncio.Lock()

    async def knows(self, header: str | None, users: Mapping[bytes, bytes]) -> bool:
        """Whether the Authorization `header` is that of one of `users` (name to hash)."""
        name, password = _credentials(header)
        if name is None:
            return False
        # For an unknown user the costliest hash there is, so that the answer takes no less than another one.
        hashed = users.get(name, max(users.values(), key=_cost))
        digest = hmac.digest(self._secret, hashlib.sha256(password).digest() + hashed, "sha256")
        if self._remembered(name, digest):
            return name in users
        async with self._turn:
            if self._remembered(name, digest):
                return name in users
            right = await in_thread(partial(_matches, password, hashed), "bcrypt")
            if right and name in users:
                self._good[name] = digest
                return True
        return False

    def _remembered(self, name: bytes, digest: bytes) -> bool:
        return hmac.compare_digest(self._good.get(name, b""), digest)


def _credentials(header: str | None) -> tuple[bytes | None, bytes]:
    """Name and password of a Basic Authorization header; no name when it is not one."""
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
    except ValueError:  # a hash of the right form whose salt is no salt
        return False


def _unauthorized() -> ASGIApp:
    headers = {**SECURITY, "WWW-Authenticate": 'Basic realm="celery-vitals", charset="UTF-8"'}
    return PlainTextResponse("Unauthorized\n", 401, headers)
