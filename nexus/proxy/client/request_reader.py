"""The requests in a client's bytes: where each of them begins and ends."""

import asyncio
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError

from nexus.proxy.client.chunked_body import EMPTY_LINE, ChunkedBody, up_to_empty_line
from nexus.proxy.client.known_head import LONGEST_HEAD, HeadBytes, Payload, SizedBody, WholeBody
from nexus.proxy.headers.from_client import MAX_HEADERS

MAX_LINE: Final = 8190
PARSER_ALLOWANCE: Final = 2
"""The parser gives up only at this many times a limit: up to there a request is read, and refused in its own words."""
READ_BUFFER_BYTES: Final = 64 * 1024

Request = tuple[RawRequestMessage, Payload, int | None]
"""A head, where its body comes from, and the length of that if the head is an earlier one with another length."""


class RequestReader:
    """Reads one request after the other, and carries nothing from one to the next.

    Each head is read by a parser of its own, and each chunked body by another: a parser keeps things, such as the last
    trailer of a request, which aiohttp's takes for the first header of the next one.
    """

    __slots__ = ("_begun", "_body", "_head_bytes", "_loop", "_parser", "_protocol", "_tail", "is_upgraded")

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """:param protocol: paused and resumed by the bodies, when they hold too much that is not read yet."""
        self._protocol = protocol
        self._loop = loop
        self._head_bytes = HeadBytes()
        self._parser: HttpRequestParser | None = None
        """None unless a head has begun and is not whole."""
        self._begun = b""
        """What has come of that head, as far as it may be remembered."""
        self._tail = b""
        """The last bytes that the parser was given: the empty line may have begun in them."""
        self._body: SizedBody | ChunkedBody | None = None
        """The one whose end has not come."""
        self.is_upgraded = False
        """Whether what follows is not HTTP."""

    @property
    def unfinished(self) -> StreamReader | None:
        """The body whose end has not come; None when the next byte belongs to a head."""
        return self._body.payload if self._body is not None else None

    @property
    def is_head_method(self) -> bool:
        """Whether the request that is being read is a HEAD, as far as that can be seen."""
        return self._begun.startswith(b"HEAD ")

    def feed(self, data: bytes) -> tuple[Request | None, bytes]:
        """Read *data* to the end of one head or of one body, whichever comes first.

        Return the request whose head that was, if it was one, and the rest of *data*, which is to be fed next.

        :raises HttpProcessingError: this is no request, and nothing behind it can be read.
        """
        if self._body is not None:
            return None, self._feed_body(self._body, data)
        if self._parser is None:
            known = self._head_bytes.known(data)
            if known is not None:
                message, length, start = known
                payload, rest = self._begin_sized(length, data[start:])
                return (message, payload, length), rest
            # Empty lines before a request mean nothing, and one is looked for below to find the end of its head.
            data = data.lstrip(b"\r\n")
            if not data:
                return None, b""
        return self._parse(data)

    def _feed_body(self, body: SizedBody | ChunkedBody, data: bytes) -> bytes:
        rest = body.feed(data)
        if body.is_whole:
            self._body = None
        return rest

    def _parse(self, data: bytes) -> tuple[Request | None, bytes]:
        if self._parser is None:
            self._parser = self._new_parser()
        piece, rest, self._tail = up_to_empty_line(self._tail, data)
        if len(self._begun) <= LONGEST_HEAD:
            self._begun += piece
        found, self.is_upgraded, _ = self._parser.feed_data(piece)
        if not found:
            return None, rest
        message, payload = found[0]
        if len(found) > 1 or self._tail != EMPTY_LINE[1:]:
            raise BadHttpMessage("a head that does not end with its empty line")
        if "Transfer-Encoding" in message.headers and not message.chunked:
            raise BadHttpMessage("a transfer coding that does not say where the body ends")
        self._head_bytes.learn(self._begun, message)
        self._parser, self._begun, self._tail = None, b"", b""
        return self._begin(message, payload, rest)

    def _begin(self, message: RawRequestMessage, payload: StreamReader, rest: bytes) -> tuple[Request, bytes]:
        """Find the body behind a head that was parsed."""
        if self.is_upgraded:
            if not payload.is_eof():
                payload.feed_eof()
            return (message, payload, None), b""
        if message.chunked:
            self._body = ChunkedBody(payload)
            return (message, payload, None), rest
        if payload.is_eof():
            return (message, payload, None), rest
        # The parser takes nothing but digits for a length.
        body, rest = self._begin_sized(int(message.headers["Content-Length"]), rest)
        return (message, body, None), rest

    def _begin_sized(self, length: int, data: bytes) -> tuple[Payload, bytes]:
        """Return the body of *length* bytes that *data* begins with, and what of *data* comes behind it."""
        if len(data) >= length:
            return WholeBody(data[:length]), data[length:]
        payload = StreamReader(self._protocol, READ_BUFFER_BYTES, loop=self._loop)
        self._body = SizedBody(payload, length)
        return payload, self._body.feed(data)

    def _new_parser(self) -> HttpRequestParser:
        return HttpRequestParser(
            self._protocol,
            self._loop,
            READ_BUFFER_BYTES,
            max_line_size=PARSER_ALLOWANCE * MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=PARSER_ALLOWANCE * MAX_HEADERS,
            payload_exception=RequestPayloadError,
            auto_decompress=False,
        )
