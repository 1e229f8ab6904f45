"""Reads the body of a request under a deadline and a size limit."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from aiohttp import web
from aiohttp.streams import StreamReader

from nexus.errors import RequestError
from nexus.proxy.headers.from_client import Head

MIN_RATE: Final = 64 * 1024
"""Bytes per second that a slow client must keep up, on top of the deadline."""
LINGER_S: Final = 2.0
"""For how long a body that is not used is still read, so that the client sees the reply before the connection ends."""


async def receive(  # noqa: PLR0913 - what is read, and how much of it for how long
    body: StreamReader,
    head: Head,
    length: int | None,
    *,
    write: Callable[[bytes], None],
    limit: int,
    deadline_s: float,
) -> bytes:
    """Return the whole body.

    :param length: bytes of the body; None when it is chunked, or there is none.
    :param write: writes to the client, which may wait for ``100 Continue`` before it sends the body.
    :raises RequestError: ``too_large``, ``unsupported_content_encoding``, ``request_timeout``, ``bad_request`` (broken
        framing), ``expectation_failed``.
    """
    if length is not None and length > limit:
        raise _too_large(limit)
    if head.content_encoding and head.content_encoding.lower() != b"identity":
        raise RequestError("unsupported_content_encoding", "send the body without Content-Encoding", close=True)
    if head.expect:
        if head.expect.lower() != b"100-continue":
            raise RequestError("expectation_failed", "the only expectation understood is 100-continue", close=True)
        write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        # Small bodies arrive together with their head.
        data = body.read_nowait() if body.is_eof() else await _gather(body, limit, deadline_s)
    except web.RequestPayloadError as exc:
        raise RequestError("bad_request", "the body breaks its framing", close=True) from exc
    if len(data) > limit:
        raise _too_large(limit)
    return data


async def _gather(body: StreamReader, limit: int, deadline_s: float) -> bytes:
    loop = asyncio.get_running_loop()
    began = loop.time()
    parts: list[bytes] = []
    size = 0
    try:
        while not body.at_eof():
            async with asyncio.timeout_at(began + deadline_s + size / MIN_RATE):
                part = await body.readany()
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
    except TimeoutError:
        raise RequestError("request_timeout", "the body did not arrive in time", close=True) from None
    if (broken := body.exception()) is not None:
        # The framing broke after a part that had arrived: that part may look like a whole body.
        raise broken
    return b"".join(parts)


def _too_large(limit: int) -> RequestError:
    return RequestError("too_large", f"the body may have {limit} bytes (server.max_body_bytes)", close=True)


async def linger(for_s: float) -> None:
    """Wait for a client to close its end of a connection that is closed at this one: that cancels the wait.

    Data that arrives on a connection that is closed at both ends resets it, and the client may lose the reply.
    """
    await asyncio.sleep(for_s)


async def is_discarded(body: StreamReader) -> bool:
    """Read and drop the rest of *body* for a while; return whether its end arrived."""
    with suppress(TimeoutError, web.RequestPayloadError):
        async with asyncio.timeout(LINGER_S):
            while not body.is_eof():
                await body.readany()
    return body.is_eof()
