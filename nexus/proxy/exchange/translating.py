"""Lets a backend answer in another dialect than the client's."""

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from nexus.domain.backend import Backend
from nexus.domain.model import ModelFacts
from nexus.domain.request import Endpoint
from nexus.domain.statuses import FIRST_ERROR
from nexus.domain.translation import pair
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.exchange.expected_response import DOCUMENT_TYPE
from nexus.proxy.exchange.rejection import ascii_only
from nexus.proxy.headers.from_client import Head
from nexus.routing.decision import Reserved
from nexus.routing.decision_record import Request
from nexus.routing.rejections import shortened
from nexus.translation.conversion import About, Conversion
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert, headers_of
from nexus.translation.quirks import quirks_of
from nexus.wire.protocol import WireProtocol
from nexus.wire.protocols import EVERY, PROTOCOLS

if TYPE_CHECKING:
    from nexus.proxy.exchange.attempt import Attempt
    from nexus.proxy.exchange.failover import Failover
    from nexus.proxy.exchange.response import Response

NOT_TRANSLATABLE: Final = "not_translatable"
"""The code of a request that a dialect cannot say: another backend may speak one that can."""
LARGE_BYTES: Final = 128 * 1024
"""A larger body is translated in a thread, so that streams go on."""
LEAST_PART: Final = 16
"""The part of a context that is left for what a chat template adds, or for the answer to a very long prompt."""
MAX_LOST_CHARACTERS: Final = 1000
_OF_DIALECTS: Final = (b"anthropic-", b"openai-")
"""Headers that mean something in one dialect only begin like this."""
_ENDPOINTS: Final = {endpoint.name: endpoint for endpoint in EVERY}


class Translation(msgspec.Struct, frozen=True, eq=False):
    """The translation of one request for one backend, and of its answer."""

    name: str
    """Such as ``anthropic->openai``."""
    endpoint: Endpoint
    """Where the backend is asked."""
    conversion: Conversion

    @property
    def protocol(self) -> WireProtocol:
        """What the backend speaks."""
        return PROTOCOLS[self.endpoint.protocol]

    @property
    def lines(self) -> bytes:
        """The lines of the reply's head that say what was translated, and what could not be carried over."""
        # Clients may send fields of any name and number.
        lost = ascii_only(shortened(", ".join(self.conversion.lost), MAX_LOST_CHARACTERS)).encode()
        untranslated = b"X-Nexus-Untranslated: %b\r\n" % lost if lost else b""
        return b"X-Nexus-Translated: %b\r\n%b" % (self.name.encode(), untranslated)


async def translation_for(failover: "Failover", reserved: Reserved) -> Translation | None:
    """Return the translation that *reserved* needs; None: its backend speaks the protocol of the client.

    :raises RequestError: the request is invalid, or the backend's dialect cannot say it: ``not_translatable``.
    """
    endpoint = reserved.translated_to
    if endpoint is None:
        return None
    conversion = await converted(failover.routing.request, failover.body, reserved, endpoint)
    return Translation(pair(failover.request.endpoint.name, endpoint), _ENDPOINTS[endpoint], conversion)


async def converted(request: Request, body: bytes, reserved: Reserved, endpoint: str) -> Conversion:
    """Return *request*, whose body is *body*, as *reserved* is to be asked at *endpoint*.

    :raises RequestError: as :func:`translation_for`.
    """
    facts = reserved.backend.facts(reserved.model)
    target = Target(
        model=reserved.model,
        room_tokens=_room(facts, request.requirements.prompt_tokens),
        max_tokens=None if facts is None else facts.max_output_tokens,
        thinks=None if facts is None else facts.thinking,
        quirks=quirks_of(reserved.backend.kind.name),
    )
    about = About(
        model=request.requirements.model,
        id=request.id.removeprefix("req-"),
        created=int(request.received_unix_s),
        prompt_tokens=request.requirements.prompt_tokens,
    )
    arguments = request.endpoint.name, endpoint, body, target, about
    return await asyncio.to_thread(convert, *arguments) if len(body) > LARGE_BYTES else convert(*arguments)


def _room(facts: ModelFacts | None, prompt_tokens: int) -> int | None:
    """Return how long an answer surely may be beside a prompt of about *prompt_tokens*, which may be twice as long."""
    if facts is None or facts.context_length is None:
        return None
    context = facts.context_length
    return max(1, context // LEAST_PART, context - 2 * prompt_tokens - context // LEAST_PART)


def translated_head(head: Head, endpoint: Endpoint, backend: Backend) -> Head:
    """Return the headers of a request that is translated, with the client's key where *backend* expects one."""
    forward = [
        (name, line) for name, line in head.forward if name != b"content-type" and not name.startswith(_OF_DIALECTS)
    ]
    forward.append((b"content-type", b"Content-Type: application/json\r\n"))
    forward += [(name, b"%b: %b\r\n" % (name, value)) for name, value in headers_of(endpoint.name).items()]
    scheme, _, key = head.authorization.partition(b" ")
    key = key.strip() if scheme.lower() == b"bearer" else head.api_key
    credentials: list[tuple[bytes, bytes]] = []
    if key and backend.kind.key_header == "x-api-key":
        credentials = [(b"x-api-key", b"x-api-key: %b\r\n" % key)]
    elif key:
        credentials = [(b"authorization", b"Authorization: Bearer %b\r\n" % key)]
    return replace(head, content_type=DOCUMENT_TYPE, forward=forward, credentials=credentials, prepared={})


async def translate_whole(failover: "Failover", attempt: "Attempt", response: "Response") -> None:
    """Translate a whole answer, which may go to the client afterwards.

    :raises UpstreamError: PROTOCOL: it is none of the backend's dialect.
    """
    translation = attempt.translation
    if translation is None or response.mode != "whole" or response.status >= FIRST_ERROR:
        return
    conversion, is_stream = translation.conversion, failover.requirements.is_stream
    translate = conversion.answer_as_stream if is_stream else conversion.answer
    try:
        body = response.body
        attempt.translated = await asyncio.to_thread(translate, body) if len(body) > LARGE_BYTES else translate(body)
    except ValueError as exc:
        text = f"its answer cannot be translated: {exc}"
        raise UpstreamError(UpstreamFault.PROTOCOL, text) from exc
