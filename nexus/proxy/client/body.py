"""Reads a request's body under a deadline and a size limit."""

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader

from nexus.errors import RequestError
from nexus.proxy.client.known_head import Payload, WholeBody
from nexus.proxy.headers.from_client import Head

LEAST_RATE: Final = 64 * 1024
"""Bytes per second that a slow client must keep up, on top of the deadline."""


LINGER_S: Final = 2.0
"""For how long a body that nobody wants is read on, so that its client sees the answer before the connection ends."""


class CanContinue(Protocol):
    """Who can tell a client, which asked first, to send its body."""

    def write(self, data: bytes) -> None: ...


async def receive(payload: Payload, head: Head, client: CanContinue, *, limit: int, deadline_s: float) -> bytes:
    """Return the whole body.

    :raises RequestError: ``too_large``, ``request_timeout``, ``bad_request`` (broken framing), ``expectation_failed``.
    """
    if head.expect:
        if head.expect.lower() != b"100-continue":
            raise RequestError("expectation_failed", "the only expectation understood is 100-continue", close=True)
        client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        if isinstance(payload, WholeBody) or payload.is_eof():
            # Small requests arrive whole: nothing to wait for.
            body = payload.read_nowait()
        else:
            body = await _gather(payload, limit, deadline_s)
    except web.RequestPayloadError as exc:
        raise RequestError("bad_request", "the body breaks its framing", close=True) from exc
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _gather(payload: StreamReader, limit: int, deadline_s: float) -> bytes:
    loop = asyncio.get_running_loop()
    began = loop.time()
    parts: list[bytes] = []
    size = 0
    try:
        while not payload.at_eof():
            async with asyncio.timeout_at(began + deadline_s + size / LEAST_RATE):
                part = await payload.readany()
            parts.append(part)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
    except TimeoutError:
        raise RequestError("request_timeout", "the body did not arrive in time", close=True) from None
    if (broken := payload.exception()) is not None:
        # It broke behind a part that had arrived: what is there may look whole.
        raise broken
    return b"".join(parts)


def _too_large(limit: int) -> RequestError:
    return RequestError("too_large", f"the body may have {limit} bytes (server.max_body_bytes)", close=True)


async def linger(for_s: float) -> None:
    """Wait for a client to close its end of a connection that is closed at this one: that cancels the wait.

    What arrives on a connection that is closed at both ends resets it, and the client may lose what it has not read.
    """
    await asyncio.sleep(for_s)


async def is_discarded(payload: StreamReader) -> bool:
    """Read what is left of a body that nobody wanted, for a while; whether its end came."""
    with suppress(TimeoutError, web.RequestPayloadError):
        async with asyncio.timeout(LINGER_S):
            while not payload.is_eof():
                await payload.readany()
    return payload.is_eof()
