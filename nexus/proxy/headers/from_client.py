"""Reads and checks the head of a client's request."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp.http import HttpVersion10, HttpVersion11, RawRequestMessage

from nexus.domain.read_only import ReadOnlyDict
from nexus.errors import RequestError
from nexus.proxy.headers.rules import CREDENTIALS, NOT_FOR_BACKENDS, NOT_FOR_BACKENDS_PREFIXES

HINTS: Final = frozenset(
    {
        b"x-nexus-explain",
        b"x-nexus-strict",
        b"x-nexus-flexible",
        b"x-nexus-priority",
        b"x-nexus-privacy",
        b"x-nexus-queue-timeout",
    }
)
"""The request headers for stages; any other ``x-nexus-*`` header of a client is dropped."""

_SINGLE: Final = frozenset(
    {
        b"authorization",
        b"x-api-key",
        b"host",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"x-request-id",
        b"idempotency-key",
        b"expect",
        b"origin",
        *HINTS,
    }
)
"""Headers that may be sent only once: two of them could be understood in two ways."""

_READ: Final = _SINGLE - {b"idempotency-key"}
"""Headers that Nexus acts on. They must be visible ASCII, which all servers read alike."""

_KNOWN: Final = frozenset({*NOT_FOR_BACKENDS, *_SINGLE, b"accept", b"sec-fetch-site"})
"""Headers that Nexus reads, removes or sets."""
_PREFIXES: Final = tuple(NOT_FOR_BACKENDS_PREFIXES)

_PROTECTED: Final = re.compile(
    rb"x-nexus-|authorization|content-|host$|cookie|x-forwarded-|x-api-key|transfer-encoding"
)
_VISIBLE: Final = re.compile(rb"[\t\x20-\x7e]*\Z")
_TEXT: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
_REQUEST_ID: Final = re.compile(rb"[\x21-\x7e]{1,128}\Z")
_NO_HINTS: Final[Mapping[str, str]] = ReadOnlyDict()
MAX_HOPS: Final = 3
MAX_HEADERS: Final = 100
MAX_HINT: Final = 200
"""Characters that are kept of a header for stages: it is stored with the decision."""


class Head(msgspec.Struct, kw_only=True):
    """The headers that Nexus reads, and those that are sent on."""

    host: bytes = b""
    content_type: bytes = b""
    is_chunked: bool = False
    authorization: bytes = b""
    api_key: bytes = b""
    request_id: str = ""
    """The client's own; empty when it sent none, or none that is valid."""
    accept: bytes = b""
    origin: bytes = b""
    fetch_site: bytes = b""
    expect: bytes = b""
    content_encoding: bytes = b""
    hops: int = 0
    """How many Nexus proxies the request has passed."""
    forward: list[tuple[bytes, bytes]]
    """Of the headers that are sent on: the name in lower case, and the whole line with its CRLF."""
    credentials: list[tuple[bytes, bytes]] = []
    """The same for the client's keys, which are sent on to some backends only."""
    hints: Mapping[str, str] = {}
    """The headers for stages."""
    prepared: dict[int, tuple[object, bytes, bool, bytes]] = {}
    """Lines that :func:`~nexus.proxy.headers.to_backend.request_head` made of it, by the ``id()`` of the template."""
    cors_lines: bytes = b""
    """Lines of the reply that let a page of another origin read it; empty unless the origin is allowed."""


def read_head(message: RawRequestMessage) -> Head:
    """Read and check the headers of *message*.

    :raises RequestError: ``bad_request``, ``duplicate_header`` or ``headers_too_large``.
    """
    _check_all(message.raw_headers)
    fields: dict[bytes, bytes] = {}
    forward: list[tuple[bytes, bytes]] = []
    for raw_name, value in message.raw_headers:
        name = raw_name.lower()
        if name in _SINGLE and name in fields:
            raise RequestError("duplicate_header", f"the header '{name.decode()}' may be sent only once", close=True)
        if name in NOT_FOR_BACKENDS:
            # Several headers of one name are one list (RFC 9110, 5.3), such as Connection.
            fields[name] = fields[name] + b"," + value if name in fields else value
        elif name in HINTS or name == b"x-nexus-hops":
            fields[name] = value
        elif not (name.startswith(_PREFIXES) or (b"_" in name and _is_look_alike(name))):
            fields[name] = value
            forward.append((name, b"%b: %b\r\n" % (raw_name, value)))
    if b"connection" in fields:
        forward = _without_named(fields[b"connection"], forward)
    if b"expect" in fields and message.version == HttpVersion10:
        # RFC 9110, 10.1.1: an HTTP/1.0 client would take the interim response for the final one.
        del fields[b"expect"]
    head = _head(fields, forward)
    if not CREDENTIALS.isdisjoint(fields):
        lines = ((name.lower(), b"%b: %b\r\n" % (name, value)) for name, value in message.raw_headers)
        head.credentials = [(name, line) for name, line in lines if name in CREDENTIALS]
    return head


def _is_look_alike(name: bytes) -> bool:
    """Whether a server could take *name*, which has an underscore, for a header that Nexus acts on.

    CGI and WSGI servers pass headers as variables, and read ``X_Api_Key`` as ``X-Api-Key``.
    """
    folded = name.replace(b"_", b"-")
    return folded in _KNOWN or folded.startswith(_PREFIXES)


class HeadMemory:
    """Remembers the last head of one connection, as client libraries send the same headers again, except the length."""

    __slots__ = ("_head", "_length_at", "_raw", "_version")

    def __init__(self) -> None:
        self._raw: tuple[tuple[bytes, bytes], ...] = ()
        self._version = HttpVersion10
        self._length_at = -1
        """The index of Content-Length in the headers, which :class:`Head` does not hold; -1: there is none."""
        self._head: Head | None = None

    def read(self, message: RawRequestMessage) -> Head:
        """Return the result of :func:`read_head`, for the same headers the same object as for the last request."""
        head = self.again(message)
        if head is None:
            raw, self._head = message.raw_headers, None
            head = read_head(message)
            self._length_at = next((i for i, (name, _) in enumerate(raw) if name.lower() == b"content-length"), -1)
            self._raw, self._version, self._head = raw, message.version, head
        return head

    def again(self, message: RawRequestMessage) -> Head | None:
        """Return the head of the last request if *message* has the same headers, except the length."""
        raw, last, at = message.raw_headers, self._raw, self._length_at
        if self._head is None or message.version != self._version:
            return None
        if raw == last:
            return self._head
        is_same = (
            at >= 0
            and len(raw) == len(last)
            and raw[at][0] == last[at][0]
            and raw[:at] == last[:at]
            and raw[at + 1 :] == last[at + 1 :]
        )
        return self._head if is_same else None


def _check_all(raw_headers: tuple[tuple[bytes, bytes], ...]) -> None:
    if len(raw_headers) > MAX_HEADERS:
        raise RequestError("headers_too_large", f"a request may have {MAX_HEADERS} headers", close=True)
    if _VISIBLE.match(b"".join([value for _, value in raw_headers])):
        return
    for name, value in raw_headers:
        if not _TEXT.match(value):
            raise RequestError("bad_request", "a header value holds characters other than visible ASCII", close=True)
        if name.lower() in _READ and not _VISIBLE.match(value):
            text = f"the header '{name.decode().lower()}' holds characters other than visible ASCII"
            raise RequestError("bad_request", text, close=True)


def _head(fields: Mapping[bytes, bytes], forward: list[tuple[bytes, bytes]]) -> Head:
    get = fields.get
    request_id = get(b"x-request-id", b"")
    hops = get(b"x-nexus-hops", b"")
    return Head(
        host=get(b"host", b""),
        content_type=get(b"content-type", b""),
        is_chunked=b"transfer-encoding" in fields,
        authorization=get(b"authorization", b""),
        api_key=get(b"x-api-key", b""),
        request_id=request_id.decode() if _REQUEST_ID.match(request_id) else "",
        accept=get(b"accept", b""),
        origin=get(b"origin", b""),
        fetch_site=get(b"sec-fetch-site", b""),
        expect=get(b"expect", b""),
        content_encoding=get(b"content-encoding", b""),
        hops=int(hops) if hops.isdigit() and len(hops) < 4 else 0,
        forward=forward,
        hints=_NO_HINTS if HINTS.isdisjoint(fields) else _hints(fields),
    )


def _hints(fields: Mapping[bytes, bytes]) -> Mapping[str, str]:
    found = {name: fields[name] for name in HINTS if name in fields}
    return ReadOnlyDict({name.decode(): value[:MAX_HINT].decode() for name, value in found.items()})


def _without_named(connection: bytes, forward: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    named = {token.strip().lower() for token in connection.split(b",")}
    if any(_PROTECTED.match(token) for token in named):
        raise RequestError("bad_request", "the header 'connection' names a header that may not be removed", close=True)
    return [(name, line) for name, line in forward if name not in named]


def can_stay_open(message: RawRequestMessage) -> bool:
    """Whether another request may follow on the connection of *message*.

    HTTP/1.0 clients wait for the end of the connection. After an offer to upgrade, which Nexus ignores, the parser
    drops the bytes that follow.
    """
    return not (message.should_close or message.upgrade) and message.version == HttpVersion11
