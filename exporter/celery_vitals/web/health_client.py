"""Requests the health document of a running exporter."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from celery_vitals.errors import VitalsError
from celery_vitals.secrets import Secret, without_credentials
from celery_vitals.settings.model import HEALTH_PATH

_MAX_BYTES = 16 << 20
_CHUNK = 1 << 16
_HINTS = {
    401: "authentication required (add USER:PASSWORD@ to the URL)",
    403: "access denied",
    404: f"no {HEALTH_PATH} there (is this the address of celery-vitals, and its prefix?)",
}


class NoHealth(VitalsError):
    """The exporter returned no health document.  The text does not quote the password."""


def request_health(url: Secret, timeout: float) -> Mapping[str, Any]:
    """Return the health document of the exporter at `url`, within `timeout` seconds.

    User and password of the URL are sent as basic authentication.  Raises NoHealth.
    """
    parts = urlsplit(url.reveal())
    address = without_credentials(url.reveal())
    try:
        status, body = _get(parts, timeout)
    except ssl.SSLCertVerificationError as error:
        raise NoHealth(f"{address}: certificate not trusted: {error.verify_message}") from None
    except TimeoutError:
        raise NoHealth(f"{address}: no response within {timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NoHealth(f"{address}: {text}") from None
    # 503 is the status of an unhealthy cluster.
    if status not in (200, 503):
        raise NoHealth(f"{address}: {_HINTS.get(status, f'HTTP status {status}')}")
    try:
        document = json.loads(body)
        if isinstance(document, dict) and "status" in document and "findings" in document:
            return document
    except (ValueError, RecursionError):
        pass
    raise NoHealth(f"{address}: not a health document (is this the address of celery-vitals?)")


def _get(parts: SplitResult, timeout: float) -> tuple[int, bytes]:
    """Return status and body.  Raises OSError and HTTPException."""
    until = time.monotonic() + timeout
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    headers = {"Accept": "application/json"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}{HEALTH_PATH}", headers=headers)
        body = bytearray()
        with connection.getresponse() as response:
            while chunk := response.read1(_CHUNK):
                body += chunk
                if time.monotonic() > until:
                    raise TimeoutError
                if len(body) > _MAX_BYTES:
                    raise http.client.HTTPException("response too large")
        return response.status, bytes(body)
    finally:
        connection.close()
