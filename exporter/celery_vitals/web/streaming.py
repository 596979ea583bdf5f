"""Large responses, sent in slices.

200,000 series are 20 MB.  In one piece they would cost that much memory for each scrape, and the
allocator keeps such blocks for every thread that once needed them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_SLICE = 256 * 1024


def slices(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join the parts into slices of about 256 kB."""
    pending: list[bytes] = []
    size = 0
    for part in parts:
        pending.append(part)
        size += len(part)
        if size >= _SLICE:
            yield b"".join(pending)
            pending.clear()
            size = 0
    yield b"".join(pending)


class SlicedResponse(Response):
    """A response whose body is sent in slices, with a Content-Length."""

    def __init__(self, parts: Sequence[bytes], headers: Mapping[str, str]) -> None:
        super().__init__(headers={**headers, "Content-Length": str(sum(map(len, parts)))})
        self.parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; the server applies the backpressure of a slow client."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        for body in slices(self.parts):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
