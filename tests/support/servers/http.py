"""One HTTP request of the tests' own, through no proxy."""

from __future__ import annotations

import base64
import urllib.request
from urllib.error import HTTPError


def request(
    url: str,
    *,
    method: str = "GET",
    data: bytes | None = None,
    credentials: tuple[str, str] | None = None,
    timeout: float = 10.0,
) -> bytes:
    """Return the body of the response; OSError (e.g. urllib.error.HTTPError) on failure."""
    headers = {"Content-Type": "application/json"} if data is not None else {}
    if credentials is not None:
        headers["Authorization"] = (
            "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
        )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(
            urllib.request.Request(url, data, headers, method=method), timeout=timeout
        ) as answer:
            return bytes(answer.read())
    except HTTPError as exc:
        exc.close()  # it holds the connection open
        raise
