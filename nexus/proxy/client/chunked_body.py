"""Decodes a chunked body and finds its end."""

from typing import Final

import httptools
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.streams import StreamReader

MAX_OVERHEAD_BYTES: Final = 32 * 1024
"""Bytes of chunk extensions and trailers between two chunks, or after the last."""

EMPTY_LINE: Final = b"\r\n\r\n"
_SOME_HEAD: Final = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
"""Puts a parser into the state in which chunks follow."""


class ChunkedBody:
    """Decodes chunks up to the end of the body, and drops trailers.

    The parser must not be fed bytes after the end. A chunked body always ends with an empty line, with or without
    trailers, so the parser is fed up to one empty line at a time.
    """

    __slots__ = ("_overhead", "_parser", "_parts", "_tail", "is_whole", "payload")

    def __init__(self, payload: StreamReader) -> None:
        """Pass the body to *payload* as it arrives."""
        self.payload = payload
        self.is_whole = False
        self._tail = b""
        """The last bytes that were fed to the parser: the empty line may begin in them."""
        self._parts: list[bytes] = []
        self._overhead = 0
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_SOME_HEAD)

    def feed(self, data: bytes) -> bytes:
        """Pass on the part of *data* that belongs to the body; return what follows it.

        :raises BadHttpMessage: the chunks are malformed; those before are passed on.
        """
        at = 0
        try:
            while at < len(data) and not self.is_whole:
                # By offset: copying the rest for each empty line in the chunks would take quadratic time.
                stop = _empty_line_end(self._tail, data, at)
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
            raise BadHttpMessage("too many bytes between two chunks or after the last one")

    # httptools callbacks

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_begin(self) -> None:
        if self.is_whole:
            raise BadHttpMessage("the body ended before its empty line")

    def on_message_complete(self) -> None:
        self.is_whole = True


def _empty_line_end(tail: bytes, data: bytes, at: int) -> int:
    """Return the end of the first empty line in *data* after *at*; 0: there is none.

    :param tail: the bytes before *at*, in which the line may begin.
    """
    size = len(EMPTY_LINE)
    near = (tail + data[at : at + size - 1]).find(EMPTY_LINE) if tail else -1
    if near >= 0:
        return at + near + size - len(tail)
    found = data.find(EMPTY_LINE, at)
    return found + size if found >= 0 else 0
