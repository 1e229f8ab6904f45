"""Receives the body of a request under a deadline and a size limit, and reads from it what routing needs."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from aiohttp import web
from aiohttp.streams import StreamReader
from msgspec.structs import replace

from nexus.domain.request import Endpoint, Requirements
from nexus.errors import RequestError
from nexus.observability.logging import logs
from nexus.proxy.client.content_coding import TooLargeError, check_coding, decoded
from nexus.proxy.client.request_reader import WholeBody
from nexus.proxy.headers.from_client import Head
from nexus.wire.protocol import WireProtocol
from nexus.wire.requests import multipart
from nexus.wire.requests.prompt_blocks import Marking
from nexus.wire.requests.prompt_start import prompt_start

MIN_RATE: Final = 64 * 1024
"""Bytes per second that extend the deadline, so that a slow client can send a large body."""
LINGER_S: Final = 2.0
"""How long the rest of an unused body is read, so that the client sees the reply before the connection closes."""
LARGE_BYTES: Final = 1024 * 1024
"""Parsing this much JSON takes about a millisecond; a larger body is parsed in a thread, so that streams go on."""
SEARCHED_FOR_KEYS: Final = 4096
MAX_PREVIEW: Final = 100
WITHOUT_MODEL: Final = Requirements(model="", answers=0)
"""The requirements of a request that involves no model."""

_USUAL_TYPE: Final = b"application/json"
_JSON_TYPES: Final = (_USUAL_TYPE, b"application/vnd.api+json")


class BodyHeaders(Protocol):
    """The headers that describe a body, and the web page that sent it."""

    @property
    def content_type(self) -> bytes: ...

    @property
    def origin(self) -> bytes: ...

    @property
    def fetch_site(self) -> bytes: ...


async def receive(  # noqa: PLR0913 - the body and its limits
    body: StreamReader | WholeBody,
    head: Head,
    length: int | None,
    *,
    write: Callable[[bytes], None],
    limit: int,
    limit_key: str = "",
    deadline_s: float,
) -> bytes:
    """Return the whole body, decoded.

    :param length: None when the body is chunked, or there is none.
    :param limit_key: the key that sets *limit*; empty when it is fixed.
    :param write: sends ``100 Continue`` to a client that waits for it.
    :raises RequestError: ``too_large``, ``unsupported_content_encoding``, ``request_timeout``, ``bad_request`` (broken
        framing or coding), ``expectation_failed``.
    """
    if length is not None and length > limit:
        raise _too_large(limit, limit_key)
    coding = head.content_encoding
    if coding and (coding.lower() == b"identity" or not (length or head.is_chunked)):
        coding = b""
    if coding:
        check_coding(coding)
    if head.expect:
        if head.expect.lower() != b"100-continue":
            raise RequestError("expectation_failed", "the only expectation understood is 100-continue", close=True)
        write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        if isinstance(body, WholeBody) or body.is_eof():
            data = body.read_nowait()
        else:
            data = await _gather(body, limit, limit_key, deadline_s)
    except web.RequestPayloadError as exc:
        raise RequestError("bad_request", "the body breaks its framing", close=True) from exc
    if len(data) > limit:
        raise _too_large(limit, limit_key)
    return await _decoded(coding, data, limit, limit_key) if coding else data


async def _decoded(coding: bytes, data: bytes, limit: int, limit_key: str) -> bytes:
    try:
        return await asyncio.to_thread(decoded, coding, data, limit)
    except TooLargeError:
        raise _too_large(limit, limit_key) from None


async def _gather(body: StreamReader, limit: int, limit_key: str, deadline_s: float) -> bytes:
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
                raise _too_large(limit, limit_key)
    except TimeoutError:
        raise RequestError("request_timeout", "the body did not arrive in time", close=True) from None
    if (broken := body.exception()) is not None:
        # The framing broke after a part that was read: alone, that part could pass for the whole body.
        raise broken
    return b"".join(parts)


def _too_large(limit: int, limit_key: str) -> RequestError:
    setting = f" ({limit_key})" if limit_key else ""
    return RequestError("too_large", f"the body may have {limit} bytes{setting}", close=True)


async def understand(
    protocol: WireProtocol,
    endpoint: Endpoint,
    headers: BodyHeaders,
    body: bytes,
    *,
    marking: Marking | None = None,
) -> Requirements:
    """Return what *body* requires of a model.

    :param marking: asks for hashes of the prompt, if a stage wants them; else None.
    :raises RequestError: *endpoint* does not accept it; see :attr:`WireProtocol.understand`.
    """
    if endpoint.model == "none" and not body:
        return WITHOUT_MODEL
    if headers.content_type != _USUAL_TYPE or endpoint.body != "json":
        _check_type(endpoint, headers)
    if endpoint.body == "multipart":
        if endpoint.model == "none":
            return WITHOUT_MODEL
        return multipart.understand(endpoint, body, headers.content_type)
    if len(body) > LARGE_BYTES:
        return await asyncio.to_thread(_understand_json, protocol, endpoint, body, marking)
    return _understand_json(protocol, endpoint, body, marking)


def _understand_json(protocol: WireProtocol, endpoint: Endpoint, body: bytes, marking: Marking | None) -> Requirements:
    if endpoint.model == "none":
        requirements = protocol.understand(endpoint, body)
        return replace(requirements, model="", answers=0 if endpoint.capability == "keep" else 1)
    return protocol.understand(endpoint, body, marking if endpoint.capability == "chat" else None)


async def preview(endpoint: Endpoint, headers: BodyHeaders, body: bytes) -> str:
    """Return the beginning of the prompt for the log, without secrets; *body* was accepted by :func:`understand`."""
    if endpoint.body == "multipart":
        text = multipart.prompt_start(body, headers.content_type, SEARCHED_FOR_KEYS)
    elif len(body) > LARGE_BYTES:
        text = await asyncio.to_thread(prompt_start, body, SEARCHED_FOR_KEYS)
    else:
        text = prompt_start(body, SEARCHED_FOR_KEYS)
    # Removed before the cut, as half a key would not be recognised.
    return logs.without_secrets(text)[:MAX_PREVIEW]


def _check_type(endpoint: Endpoint, headers: BodyHeaders) -> None:
    """Refuse content types that any web page may send without a preflight."""
    declared = headers.content_type.partition(b";")[0].strip().lower()
    if endpoint.body == "multipart":
        if declared == b"multipart/form-data":
            return
        raise RequestError("unsupported_media_type", "send multipart/form-data with a boundary")
    if declared.endswith(b"+json") or declared in _JSON_TYPES:
        return
    # The documentation of Ollama shows curl without a content type. A browser would name the page's origin.
    if endpoint.protocol == "ollama" and not headers.origin and not headers.fetch_site:
        return
    raise RequestError("unsupported_media_type", "send the body as Content-Type: application/json")


async def is_discarded(body: StreamReader | WholeBody) -> bool:
    """Read and drop the rest of *body*, for :data:`LINGER_S` at most; return whether its end arrived."""
    if isinstance(body, WholeBody):
        return True
    with suppress(TimeoutError, web.RequestPayloadError):
        async with asyncio.timeout(LINGER_S):
            while not body.is_eof():
                await body.readany()
    return body.is_eof()
