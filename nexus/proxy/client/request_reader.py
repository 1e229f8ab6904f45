"""Splits the bytes of one connection into requests, and queues them."""

import asyncio
from collections import deque
from typing import Final, NamedTuple

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web import RequestPayloadError

from nexus.errors import RequestError
from nexus.proxy.client.chunked_body import EMPTY_LINE, ChunkedBody
from nexus.proxy.headers.from_client import MAX_HEADERS

MAX_LINE: Final = 8190
PARSER_ALLOWANCE: Final = 2
"""The parser's limits are this many times higher, so that a request slightly over a limit is refused with its error."""
READ_BUFFER_BYTES: Final = 64 * 1024
MAX_WAITING: Final = 32
"""Requests that a client may send ahead of the replies; reading pauses until half of them are answered."""

MAX_DIGITS: Final = 15
"""A length with more digits is left to the parser."""
_SPELLINGS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")

_HEAD_METHOD: Final = b"HEAD "


class WholeBody:
    """A small body that arrived together with its head, as most do: nothing waits for it."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def is_eof(self) -> bool:
        """Whether all of it has arrived, as it has."""
        return True

    def read_nowait(self) -> bytes:
        """Return the content, which is not kept."""
        content, self._content = self._content, b""
        return content


class Received(NamedTuple):
    """One request as the parser has read it."""

    message: RawRequestMessage
    """Of a head that differs from the last one in its length alone, the same object, with the length of the last."""
    body: StreamReader | WholeBody
    length: int | None
    """Bytes of the body; None when it is chunked, or there is none."""


class SizedBody:
    """A body of a known length, which may arrive in pieces."""

    __slots__ = ("_left", "is_whole", "payload")

    def __init__(self, payload: StreamReader, length: int) -> None:
        """Pass *length* bytes to *payload* as they arrive."""
        self.payload = payload
        self.is_whole = False
        self._left = length

    def feed(self, data: bytes) -> bytes:
        """Pass on the part of *data* that belongs to the body; return what follows it."""
        part = data[: self._left]
        self.payload.feed_data(part)
        self._left -= len(part)
        if not self._left:
            self.is_whole = True
            self.payload.feed_eof()
        return data[len(part) :]


class KnownHead(NamedTuple):
    """A head as the parser has read it: the same bytes again, with any digits for the length, mean the same."""

    message: RawRequestMessage
    before: bytes
    """Its bytes before the digits of the length."""
    after: bytes
    """Those after them, with the empty line."""

    def find(self, data: bytes) -> tuple[int, int] | None:
        """Return the length of the body if *data* begins with this head, and where the head ends; None if not."""
        if not data.startswith(self.before):
            return None
        start = len(self.before)
        end = data.find(b"\r", start, start + MAX_DIGITS + 1)
        if end < 0 or not data.startswith(self.after, end) or not (digits := data[start:end]).isdigit():
            return None
        return int(digits), end + len(self.after)


def known_head(head: bytes, message: RawRequestMessage) -> KnownHead | None:
    """Return what recognises *head*, whose framing is that of a plain body, when it comes again; None: nothing does."""
    for spelling in _SPELLINGS:
        at = head.find(spelling)
        if at >= 0:
            start = at + len(spelling)
            end = head.find(b"\r", start)
            # The parser refuses a second length.
            return KnownHead(message, head[:start], head[end:]) if head[start:end].isdigit() else None
    return None


class RequestReader:
    """Splits the bytes of a connection into requests.

    Each head and each chunked body has a parser of its own, as a parser keeps state: aiohttp's takes the last trailer
    of a request for the first header of the next one.
    """

    __slots__ = ("_body", "_known", "_loop", "_parser", "_protocol", "_start", "_tail", "is_upgraded")

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """:param protocol: bodies pause and resume it when too much of them is unread."""
        self._protocol = protocol
        self._loop = loop
        self._parser: HttpRequestParser | None = None
        """Of the incomplete head; None between a complete head and the next."""
        self._known: KnownHead | None = None
        """The last head, if it has a length: client libraries send the same headers again."""
        self._start = b""
        """The first bytes of that head, which hold the method."""
        self._tail = b""
        """The last bytes that were fed to the parser: the empty line may begin in them."""
        self._body: SizedBody | ChunkedBody | None = None
        """The incomplete body; None while the next byte belongs to a head."""
        self.is_upgraded = False
        """Whether the bytes that follow are not HTTP."""

    @property
    def unfinished(self) -> StreamReader | None:
        """The incomplete body; None while the next byte belongs to a head."""
        return self._body.payload if self._body is not None else None

    @property
    def is_head_method(self) -> bool:
        """Whether the method of the last head that began is HEAD."""
        return self._start == _HEAD_METHOD

    def feed(self, data: bytes) -> tuple[Received | None, bytes]:
        """Read *data* up to the end of one head or one body.

        Return the request if its head is complete now, and the rest of *data*, which must be fed next.

        :raises HttpProcessingError: the request is malformed; the bytes after it cannot be read.
        """
        body = self._body
        if body is not None:
            rest = body.feed(data)
            if body.is_whole:
                self._body = None
            return None, rest
        parser, known, is_at_once = self._parser, self._known, False
        if parser is None:
            if known is not None and (found_again := known.find(data)) is not None:
                length, end = found_again
                return self._begin_sized(known.message, None, length, data[end:])
            # Empty lines before a request are ignored (RFC 9112, 2.2), and would be found as the end of its head.
            data = data.lstrip(b"\r\n")
            if not data:
                return None, b""
            parser = self._parser = self._new_parser()
            self._start, is_at_once = b"", True
        found_at = (self._tail + data).find(EMPTY_LINE)
        if found_at < 0:
            piece, rest = data, b""
            self._tail = (self._tail + data)[1 - len(EMPTY_LINE) :]
        else:
            end = found_at + len(EMPTY_LINE) - len(self._tail)
            piece, rest, self._tail = data[:end], data[end:], EMPTY_LINE[1:]
        if len(self._start) < len(_HEAD_METHOD):
            self._start += piece[: len(_HEAD_METHOD) - len(self._start)]
        found, self.is_upgraded, _ = parser.feed_data(piece)
        if not found:
            return None, rest
        if len(found) > 1 or self._tail != EMPTY_LINE[1:]:
            raise BadHttpMessage("the head does not end with an empty line")
        message, payload = found[0]
        is_plain = is_at_once and not (message.chunked or self.is_upgraded)
        self._known = known_head(piece, message) if is_plain else None
        self._parser, self._start, self._tail = None, b"", b""
        return self._begin_body(message, payload, rest)

    def _begin_body(self, message: RawRequestMessage, payload: StreamReader, rest: bytes) -> tuple[Received, bytes]:
        if self.is_upgraded:
            if not payload.is_eof():
                payload.feed_eof()
            return Received(message, payload, None), b""
        if message.chunked:
            self._body = ChunkedBody(payload)
            return Received(message, payload, None), rest
        if "Transfer-Encoding" in message.headers:
            raise BadHttpMessage("without chunks, the transfer coding does not tell where the body ends")
        digits = message.headers.get("Content-Length")
        # The parser has checked that these are digits; it takes more leading zeros than int() does.
        length = None if digits is None else int(digits.lstrip("0") or "0")
        return self._begin_sized(message, payload, length, rest)

    def _begin_sized(
        self, message: RawRequestMessage, payload: StreamReader | None, length: int | None, rest: bytes
    ) -> tuple[Received, bytes]:
        """Begin a body of *length* bytes; None: there is none.

        :param payload: what the parser made for the body; None: the head was not parsed again.
        """
        if length is not None and length <= min(len(rest), READ_BUFFER_BYTES):
            return Received(message, WholeBody(rest[:length]), length), rest[length:]
        if payload is None:
            payload = StreamReader(self._protocol, READ_BUFFER_BYTES, loop=self._loop)
        if not payload.is_eof():
            body = SizedBody(payload, length or 0)
            rest = body.feed(rest)
            if not body.is_whole:
                self._body = body
        return Received(message, payload, length), rest

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


class PendingRequests:
    """The requests that have arrived on one connection and wait for their replies, in order."""

    __slots__ = ("_held", "_reader", "is_closed", "malformed", "waiting")

    def __init__(self, protocol: BaseProtocol, loop: asyncio.AbstractEventLoop) -> None:
        """:param protocol: bodies pause and resume it."""
        self._reader: RequestReader | None = RequestReader(protocol, loop)
        """None: no further request is read."""
        self.waiting: deque[Received] = deque()
        self._held = b""
        """Bytes that arrived while too many requests were waiting."""
        self.is_closed = False
        """Whether all bytes that arrive are dropped."""
        self.malformed: tuple[HttpProcessingError, bool] | None = None
        """The error that ended reading, and whether the malformed request is a HEAD."""

    @property
    def has_room(self) -> bool:
        """Whether reading may resume after it was full."""
        return not self._held and len(self.waiting) <= MAX_WAITING // 2

    def read(self, data: bytes) -> bool:
        """Queue the requests in *data*; return whether there are any. While the queue is full, *data* is kept."""
        if self._held:
            self._held += data
            return False
        reader, waiting, is_found = self._reader, self.waiting, False
        while data and reader is not None and not self.is_closed:
            if len(waiting) >= MAX_WAITING:
                self._held = data
                break
            try:
                request, data = reader.feed(data)
            except HttpProcessingError as exc:
                self.is_closed = True
                self.malformed = exc, reader.is_head_method
                self._break_body(reader.unfinished)
                self._reader = None
                break
            if request is not None:
                waiting.append(request)
                is_found = True
                self.is_closed = reader.is_upgraded
        return is_found

    def take(self) -> Received:
        """Take the next request, and read the bytes that were held while too many were waiting."""
        taken = self.waiting.popleft()
        if self._held and len(self.waiting) <= MAX_WAITING // 2:
            held, self._held = self._held, b""
            self.read(held)
        return taken

    def end(self) -> bool:
        """Note that the client sends no more; return False if that cuts the body of a request that was taken."""
        unfinished = self._reader.unfinished if self._reader is not None else None
        if unfinished is not None and not self.waiting:
            return False
        self.is_closed = True
        self._break_body(unfinished)
        return True

    def drop(self) -> None:
        """Drop the waiting requests, and read no more."""
        self.is_closed = True
        # Breaks the reference cycle with the connection, which only the garbage collector would free.
        self._reader = None
        self.waiting.clear()
        self._held = b""
        self.malformed = None

    def _break_body(self, body: StreamReader | None) -> None:
        """Let reads of *body* fail, if there is one: its end will not arrive."""
        if body is not None:
            body.set_exception(RequestPayloadError())
            # Otherwise the connection would wait for the rest before it closes.
            body.feed_eof()


def error_of(exc: HttpProcessingError) -> RequestError:
    """Return the error for the client, which does not repeat the bytes that could not be parsed."""
    if isinstance(exc, LineTooLong):
        return RequestError("headers_too_large", f"a line of the request may have {MAX_LINE} bytes", close=True)
    return RequestError("bad_request", "the request is not well-formed HTTP/1.1", close=True)
