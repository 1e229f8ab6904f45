"""Parses the responses that arrive on one connection to a backend."""

from collections.abc import Callable
from typing import Final

import httptools
import msgspec

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.wire.responses.nature import Label, label_of

HeaderList = list[tuple[bytes, bytes]]

NOT_MODIFIED: Final = 304
WITHOUT_BODY: Final = frozenset({204, NOT_MODIFIED})
"""Responses with these have no body, whatever their headers say (RFC 9112, 6.3)."""
MAX_HEADERS: Final = 128
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 8190
"""Of one header. Common HTTP clients accept no longer one, and would blame the proxy for it."""
MAX_INTERIM_RESPONSES: Final = 16
"""Informational (1xx) responses before the final one."""
MAX_BARREN_BYTES: Final = 2 * MAX_HEAD_BYTES
"""Bytes in a row that bring no part of a body and no end: more is an endless header, trailer or chunk size."""
_LENGTH_HEADERS: Final = frozenset({b"content-length", b"transfer-encoding"})


class ResponseHead:
    """Status and headers as they arrived."""

    __slots__ = ("_label", "headers", "status")

    def __init__(self, status: int, headers: HeaderList) -> None:
        self.status = status
        self.headers = headers
        self._label: Label | None = None

    @property
    def label(self) -> Label:
        """What the headers declare of the body.

        :raises UpstreamError: PROTOCOL: the head may not be passed on, or the body cannot be understood.
        """
        if self._label is None:
            self._label = self._read_label()
        return self._label

    def has(self, name: bytes) -> bool:
        """Whether there is a header *name*, in lower case."""
        for own, _ in self.headers:  # noqa: SIM110 - asked for each answer, and a comprehension is one more call
            if own.lower() == name:
                return True
        return False

    def without(self, name: bytes) -> "ResponseHead":
        """Return a head that does not have the header *name*, in lower case."""
        return ResponseHead(self.status, [header for header in self.headers if header[0].lower() != name])

    def typed(self, content_type: bytes) -> "ResponseHead":
        """Return the same head with another content type."""
        others = [header for header in self.headers if header[0].lower() != b"content-type"]
        return ResponseHead(self.status, [*others, (b"Content-Type", content_type)])

    def _read_label(self) -> Label:
        content_type, is_encoded, codings = b"", False, []
        for name, value in self.headers:
            lowered = name.lower()
            if lowered == b"content-type":
                content_type = value
            elif lowered == b"content-encoding":
                is_encoded |= value.strip().lower() not in (b"", b"identity")
            elif lowered == b"transfer-encoding":
                codings.append(value.strip().lower())
        if self.status != NOT_MODIFIED:
            if not 200 <= self.status < 600 or 300 <= self.status < 400:
                raise UpstreamError(UpstreamFault.PROTOCOL, f"answered with status {self.status}", status=self.status)
            if codings and codings != [b"chunked"]:
                raise UpstreamError(UpstreamFault.PROTOCOL, "answered with an unknown transfer coding")
        return "opaque" if is_encoded else label_of(content_type)


class ParsedResponse(msgspec.Struct, eq=False):
    """One response, as far as it has arrived."""

    headers: HeaderList = []
    head_bytes: int = 0
    """At least the size of the head so far."""
    barren_bytes: int = 0
    """See :data:`MAX_BARREN_BYTES`."""
    status: int = 0
    interim: int = 0
    """How many informational responses came before it."""
    has_begun: bool = False
    has_head: bool = False
    head: ResponseHead | None = None
    """Set when it is passed on."""
    is_complete: bool = False
    last_parts: int = 0
    """How many parts of the body came in the read that completed it."""
    has_surplus: bool = False
    """Whether bytes follow that belong to no response."""
    is_keep_alive: bool = False
    is_close_delimited: bool = False


class ResponseParser:
    """Fills in :attr:`response` and :attr:`parts`; their owner looks there once per read, which may hold many chunks.

    All responses of a connection go through one parser, so that it notices the bytes that follow one.
    """

    __slots__ = ("_parser", "on_body", "parts", "response")

    def __init__(self) -> None:
        self.response = ParsedResponse()
        self.parts: list[bytes] = []
        """Parts of the body that were not passed on yet; their owner removes them."""
        self.on_body: Callable[[bytes], None] = self.parts.append
        """What httptools calls for each chunk: no function of ours, as a read may hold many."""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> list[bytes]:
        """Parse *data*, and return :attr:`parts`.

        :raises UpstreamError: PROTOCOL: it breaks HTTP/1.1 or a limit; what was parsed before that stays.
        """
        response = self.response
        if not response.has_head:
            response.head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not response.is_complete:
                raise UpstreamError(UpstreamFault.PROTOCOL, _reason(exc)) from exc
            response.has_surplus = True
        parts = self.parts
        if response.is_complete:
            # What follows the end is no part of this body.
            del parts[response.last_parts :]
        elif not parts:
            response.barren_bytes += len(data)
            if response.barren_bytes > MAX_BARREN_BYTES:
                raise UpstreamError(UpstreamFault.PROTOCOL, "sent an endless header, trailer or chunk size")
        elif response.barren_bytes:
            response.barren_bytes = 0
        return parts

    def close(self) -> None:
        """Drop httptools' parser, which refers to this one: nothing more is fed."""
        del self._parser

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self.response.is_complete:
            self.response.has_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        # Limited once all have arrived, and by MAX_BARREN_BYTES until then. After the head, these are trailers.
        if not self.response.has_head:
            self.response.headers.append((name, value))

    def on_headers_complete(self) -> None:
        response = self.response
        if response.is_complete:
            return
        headers = response.headers
        if len(headers) > MAX_HEADERS or (response.head_bytes > MAX_HEADER_BYTES and _is_too_large(headers)):
            raise UpstreamError(UpstreamFault.PROTOCOL, "answered with too many or too long headers")
        response.status = status = self._parser.get_status_code()
        if 100 <= status < 200:
            response.interim += 1
            if response.interim > MAX_INTERIM_RESPONSES:
                raise UpstreamError(UpstreamFault.PROTOCOL, "answered with a flood of informational responses")
            headers.clear()
            return
        response.has_head = True
        response.is_keep_alive = self._parser.should_keep_alive()
        response.is_close_delimited = not response.is_keep_alive and not any(
            name.lower() in _LENGTH_HEADERS for name, _ in headers
        )
        if status in WITHOUT_BODY:
            # With a length in its head, the parser waits for a body, and cannot parse another response.
            response.is_complete = True
            response.is_keep_alive &= not any(
                name.lower() in _LENGTH_HEADERS and value.strip() != b"0" for name, value in headers
            )

    def on_message_complete(self) -> None:
        response = self.response
        if response.has_head and not response.is_complete:
            response.is_complete = True
            response.last_parts = len(self.parts)


def _reason(exc: Exception) -> str:
    # httptools hides what a callback raised behind an error of its own.
    limit = exc.__context__
    return str(limit) if isinstance(limit, UpstreamError) else f"not an HTTP/1.1 response: {type(exc).__name__}"


def _is_too_large(headers: HeaderList) -> bool:
    sizes = [len(name) + len(value) for name, value in headers]
    return max(sizes, default=0) > MAX_HEADER_BYTES or sum(sizes) > MAX_HEAD_BYTES
