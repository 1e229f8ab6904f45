"""The head of a connection's last request as its bytes: a request that has the same one again needs no parser."""

from collections.abc import Sequence
from typing import Final

from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader

LONGEST_HEAD: Final = 16 * 1024
"""A longer one is parsed each time."""
MOST_DIGITS: Final = 12
"""Of a Content-Length that is read here."""

_LENGTH: Final = b"\r\ncontent-length:"
_END: Final = b"\r\n\r\n"


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
        message, before, after = self._message, self._before, self._after
        if message is None or self._owed or self._begun or self._is_lost or not data.startswith(before):
            return None
        end = data.find(b"\r", len(before), len(before) + MOST_DIGITS + 1)
        digits = data[len(before) : end] if end >= 0 else b""
        if not digits.isdigit() or not data.startswith(after, end):
            return None
        return message, int(digits), end + len(after)

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
        end = whole.find(_END, 0, LONGEST_HEAD) + len(_END)
        head = whole[:end]
        lines = len(message.raw_headers) + 2
        if end < len(_END) or head.count(b"\r\n") != lines or head.count(b"\n") != lines or message.chunked:
            return None
        lengths = [value for name, value in message.raw_headers if name.lower() == b"content-length"]
        if not lengths:
            return end - len(whole)
        at = head.lower().find(_LENGTH) + len(_LENGTH)
        if len(lengths) != 1 or at < len(_LENGTH):
            return None
        (digits,) = lengths
        start = head.find(digits, at)
        stop = start + len(digits)
        if (
            not digits.isdigit()
            or len(digits) > MOST_DIGITS
            or head[at:start].strip(b" ")
            or head[stop : stop + 1] != b"\r"
        ):
            return None
        if message.version == HttpVersion11 and not message.upgrade:
            self._message, self._before, self._after = message, head[:start], head[stop:]
        return int(digits) - (len(whole) - end)


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
