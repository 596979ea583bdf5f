"""Large answers, sent a slice at a time.

A page of 200,000 series has 20 MB.  In one piece it would cost that much memory for each scrape, and the allocator
keeps such room for every thread that once needed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_SLICE = 256 * 1024


def slices(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts joined to slices of about 256 kB."""
    some: list[bytes] = []
    size = 0
    for part in parts:
        some.append(part)
        size += len(part)
        if size >= _SLICE:
            yield b"".join(some)
            some.clear()
            size = 0
    yield b"".join(some)


class PartsResponse(Response):
    """A body in parts, whose length is known."""

    def __init__(self, parts: Sequence[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "Content-Length": str(sum(map(len, parts)))})
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the server makes this wait for a client that reads slowly."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for body in slices(self._parts):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
