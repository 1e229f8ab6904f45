"""Gets from a body what routing needs of it: at once when it is small, beside the event loop when it is large."""

import asyncio
from typing import Final, Protocol

from msgspec.structs import replace

from nexus.domain.request import Endpoint, Requirements
from nexus.errors import RequestError
from nexus.observability.logging import logs
from nexus.wire.protocol import WireProtocol
from nexus.wire.requests import multipart
from nexus.wire.requests.prompt_start import prompt_start

LARGE_BYTES: Final = 1024 * 1024
"""Reading this much JSON takes about a millisecond; more of it would hold up every other stream."""

_USUAL_TYPE: Final = b"application/json"
_JSON_TYPES: Final = (_USUAL_TYPE, b"application/vnd.api+json")


class Declared(Protocol):
    """What the head of a request says of its body, and of whose page sends it."""

    @property
    def content_type(self) -> bytes: ...

    @property
    def origin(self) -> bytes: ...

    @property
    def fetch_site(self) -> bytes: ...


async def understand(protocol: WireProtocol, endpoint: Endpoint, head: Declared, body: bytes) -> Requirements:
    """Read *body*.

    :raises RequestError: when it is not what *endpoint* takes; see :attr:`WireProtocol.understand`.
    """
    if endpoint.model == "none":
        return await _understand_nameless(protocol, endpoint, head, body)
    if head.content_type != _USUAL_TYPE or endpoint.body != "json":
        check_type(endpoint, head)
    if endpoint.body == "multipart":
        return multipart.understand(endpoint, body, head.content_type)
    if len(body) > LARGE_BYTES:
        return await asyncio.to_thread(protocol.understand, endpoint, body)
    return protocol.understand(endpoint, body)


async def _understand_nameless(protocol: WireProtocol, endpoint: Endpoint, head: Declared, body: bytes) -> Requirements:
    """Read a body that names no model: what it refers to, and whether it says what no request may."""
    if not body:
        return NOTHING_ASKED
    check_type(endpoint, head)
    if endpoint.body == "multipart":
        return NOTHING_ASKED
    if len(body) > LARGE_BYTES:
        requirements = await asyncio.to_thread(protocol.understand, endpoint, body)
    else:
        requirements = protocol.understand(endpoint, body)
    return replace(requirements, model="", answers=0 if endpoint.capability == "keep" else 1)


NOTHING_ASKED: Final = Requirements(model="", answers=0)
"""Of a request that asks no model for anything."""


async def preview(endpoint: Endpoint, head: Declared, body: bytes) -> str:
    """Return how the prompt of an understood *body* begins, as a log may show it: short, and without known keys."""
    if endpoint.body == "multipart":
        text = multipart.prompt_start(body, head.content_type, SEARCHED_FOR_KEYS)
    elif len(body) > LARGE_BYTES:
        text = await asyncio.to_thread(prompt_start, body, SEARCHED_FOR_KEYS)
    else:
        text = prompt_start(body, SEARCHED_FOR_KEYS)
    # Before it is cut: the first half of a key would not be known as one.
    return logs.without_secrets(text)[:MAX_PREVIEW]


SEARCHED_FOR_KEYS: Final = 4096
MAX_PREVIEW: Final = 100


def check_type(endpoint: Endpoint, head: Declared) -> None:
    """Refuse a body of another type: one that a web page may send without asking could come from any page."""
    declared = head.content_type.partition(b";")[0].strip().lower()
    if endpoint.body == "multipart":
        if declared == b"multipart/form-data":
            return
        raise RequestError("unsupported_media_type", "send multipart/form-data with a boundary")
    if declared.endswith(b"+json") or declared in _JSON_TYPES:
        return
    # What curl sends unless told otherwise, and what Ollama's own documentation shows; browsers name their origin.
    if endpoint.protocol == "ollama" and not head.origin and not head.fetch_site:
        return
    raise RequestError("unsupported_media_type", "send the body as Content-Type: application/json")
