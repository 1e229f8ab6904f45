"""The head of a connection's last request as its bytes: a request that has the same one again needs no parser."""

from collections.abc import Sequence
from typing import Final

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader

from nexus.proxy.content_length import around_length, head_of, is_plain, length_between

LONGEST_HEAD: Final = 16 * 1024
"""A longer one is parsed each time."""


class HeadBytes:
    """Follows what the parser is fed, and knows again what the parser has already read.

    A client's library says the same, but for a length, on each of its requests. Whether bytes begin a request is known
    as long as every request before them told its length; after anything else nothing is known again.
    """

    __slots__ = ("_after", "_before", "_begun", "_is_lost", "_message", "_owed")

    def __init__(self) -> None:
        self._message: RawRequestMessage | None = None
        self._before = b""
        self._after = b""
        """The head that is known, up to the digits of its length, and what follows them."""
        self._begun = b""
        """What has come of a head that is not whole."""
        self._owed = 0
        """How many bytes of a body the parser still expects."""
        self._is_lost = False

    def known(self, data: bytes) -> tuple[RawRequestMessage, int, int] | None:
        """Return the request that *data* begins, the length of its body, and where in *data* that starts.

        None when the parser must read it: its head is another one, or it is not certain that it is the head of one.
        """
        message = self._message
        if message is None or self._owed or self._begun or self._is_lost:
            return None
        found = length_between(data, self._before, self._after)
        return None if found is None else (message, *found)

    def was_parsed(self, data: bytes, found: Sequence[tuple[RawRequestMessage, object]]) -> None:
        """Note that the parser was fed *data* and has *found* these requests in it."""
        if self._is_lost:
            return
        if self._owed:
            self._owed -= len(data)
            self._is_lost = bool(found) or self._owed < 0
            return
        whole = self._begun + data if self._begun else data
        if not found:
            self._begun = whole
            self._is_lost = len(whole) > LONGEST_HEAD
            return
        self._begun = b""
        length = self._learn(whole, found[0][0]) if len(found) == 1 else None
        if length is None or length < 0:
            self._is_lost = True
        else:
            self._owed = length

    def _learn(self, whole: bytes, message: RawRequestMessage) -> int | None:
        """Return how much of the request's body is to come; None when it does not say, or not plainly."""
        headers = message.raw_headers
        head = head_of(whole, LONGEST_HEAD)
        if message.chunked or not is_plain(head, headers):
            return None
        has_come = len(whole) - len(head)
        if not any(name.lower() == b"content-length" for name, _ in headers):
            return -has_come
        parts = around_length(head, headers)
        if parts is None:
            return None
        before, digits, after = parts
        if message.version == HttpVersion11 and not message.upgrade:
            self._message, self._before, self._after = message, before, after
        return int(digits) - has_come


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


class UnseenBody:
    """A body that comes in pieces behind a head that the parser has not seen."""

    __slots__ = ("_payload", "left")

    def __init__(self) -> None:
        self._payload: StreamReader
        self.left = 0
        """How many bytes of it are to come; most of the time there is none."""

    def begin(self, payload: StreamReader, length: int) -> None:
        """Hand *length* bytes to *payload* as they come."""
        self._payload, self.left = payload, length

    def feed(self, data: bytes) -> bytes:
        """Hand on what of *data* belongs to it; return what comes after its end."""
        part = data[: self.left]
        self._payload.feed_data(part)
        self.left -= len(part)
        if not self.left:
            self._payload.feed_eof()
        return data[len(part) :]


Payload = StreamReader | WholeBody
"""Where the body of a request comes from."""
