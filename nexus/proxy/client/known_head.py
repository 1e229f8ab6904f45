"""The head of a connection's last request as its bytes: a request that has the same one again needs no parser."""

from typing import Final

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader

from nexus.proxy.content_length import around_length, is_plain, length_between

LONGEST_HEAD: Final = 16 * 1024
"""A longer one is parsed each time."""


class HeadBytes:
    """Remembers the last head that told the length of its body, and recognises it with any length.

    A client's library sends the same head, but for that length, with each of its requests.
    """

    __slots__ = ("_after", "_before", "_message")

    def __init__(self) -> None:
        self._message: RawRequestMessage | None = None
        self._before = b""
        self._after = b""
        """The head that is known, up to the digits of its length, and what follows them."""

    def known(self, data: bytes) -> tuple[RawRequestMessage, int, int] | None:
        """Return the request that *data* begins, the length of its body, and where in *data* that starts.

        *data* must be the beginning of a request. None when the parser must read it: its head is another one.
        """
        message = self._message
        if message is None:
            return None
        found = length_between(data, self._before, self._after)
        return None if found is None else (message, *found)

    def learn(self, head: bytes, message: RawRequestMessage) -> None:
        """Remember *head*, which the parser has read as *message*, if it plainly tells a length."""
        if message.version != HttpVersion11 or message.upgrade or message.chunked:
            return
        if len(head) > LONGEST_HEAD or not is_plain(head, message.raw_headers):
            return
        parts = around_length(head, message.raw_headers)
        if parts is not None:
            self._message, self._before, self._after = message, parts[0], parts[2]


class WholeBody:
    """A body that has come as a whole: what is read of a stream reader, without one."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def is_eof(self) -> bool:
        return True

    def read_nowait(self) -> bytes:
        # Not kept: the connection keeps this until its next request.
        data, self._data = self._data, b""
        return data


class SizedBody:
    """A body of a known length that comes in pieces."""

    __slots__ = ("left", "payload")

    def __init__(self, payload: StreamReader, length: int) -> None:
        """Hand *length* bytes to *payload* as they come."""
        self.payload = payload
        self.left = length
        """How many bytes of it are to come."""

    @property
    def is_whole(self) -> bool:
        return not self.left

    def feed(self, data: bytes) -> bytes:
        """Hand on what of *data* belongs to it; return what comes after its end."""
        part = data[: self.left]
        self.payload.feed_data(part)
        self.left -= len(part)
        if not self.left:
            self.payload.feed_eof()
        return data[len(part) :]


Payload = StreamReader | WholeBody
"""Where the body of a request comes from."""
