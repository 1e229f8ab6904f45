"""A body in chunks: what is in the chunks is the body, and nothing else of it is kept."""

from typing import Final

import httptools
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import StreamReader

MAX_OVERHEAD_BYTES: Final = 32 * 1024
"""Of chunk extensions and trailers, between two chunks and behind the last one."""

EMPTY_LINE: Final = b"\r\n\r\n"
_SOME_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
"""Brings a parser to where chunks begin."""


class ChunkedBody:
    """Reads chunks up to the end of the body; trailers, which nothing here has a use for, are dropped.

    The parser is never given a byte behind that end: trailers end with an empty line, with which the body ends even if
    there are none, so the parser is fed up to one empty line at a time.
    """

    __slots__ = ("_overhead", "_parser", "_parts", "_tail", "is_whole", "payload")

    def __init__(self, payload: StreamReader) -> None:
        """Hand the body to *payload* as it comes."""
        self.payload = payload
        self.is_whole = False
        self._tail = b""
        """The last bytes that the parser was given: the empty line may have begun in them."""
        self._parts: list[bytes] = []
        self._overhead = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_SOME_HEAD)

    def feed(self, data: bytes) -> bytes:
        """Hand on what of *data* belongs to the body; return what comes after its end.

        :raises BadHttpMessage: these are no chunks; what came before is handed on.
        """
        at = 0
        try:
            while at < len(data) and not self.is_whole:
                # By offset: copying the rest for each empty line in the chunks would take quadratic time.
                stop = empty_line_end(self._tail, data, at)
                piece = data[at:stop] if stop else data[at:]
                self._tail = EMPTY_LINE[1:] if stop else (self._tail + piece)[1 - len(EMPTY_LINE) :]
                at += len(piece)
                self._parse(piece)
        finally:
            if self._parts:
                self.payload.feed_data(b"".join(self._parts))
                self._parts.clear()
        if self.is_whole:
            self.payload.feed_eof()
        return data[at:]

    def _parse(self, piece: bytes) -> None:
        count = len(self._parts)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as exc:
            raise BadHttpMessage("the chunks of the body are malformed") from exc
        self._overhead = 0 if len(self._parts) > count else self._overhead + len(piece)
        if self._overhead > MAX_OVERHEAD_BYTES:
            raise BadHttpMessage("too much between two chunks or behind the last one")

    # what the parser says

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_begin(self) -> None:
        if self.is_whole:
            raise BadHttpMessage("the body ended before its empty line")

    def on_message_complete(self) -> None:
        self.is_whole = True


def up_to_empty_line(tail: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """Split *data* behind its first empty line, if it has one.

    :param tail: the end of what came before, in which the line may have begun.
    :return: the two parts, and the tail of what came with the first of them.
    """
    stop = empty_line_end(tail, data, 0)
    if not stop:
        return data, b"", (tail + data)[1 - len(EMPTY_LINE) :]
    return data[:stop], data[stop:], EMPTY_LINE[1:]


def empty_line_end(tail: bytes, data: bytes, at: int) -> int:
    """Return where the first empty line in *data* from *at* on ends; 0 when there is none.

    :param tail: what came right before *at*, in which the line may have begun.
    """
    size = len(EMPTY_LINE)
    near = (tail + data[at : at + size - 1]).find(EMPTY_LINE) if tail else -1
    if near >= 0:
        return at + near + size - len(tail)
    found = data.find(EMPTY_LINE, at)
    return found + size if found >= 0 else 0
