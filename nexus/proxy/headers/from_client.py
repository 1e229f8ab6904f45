"""Reads and checks the head of a client's request."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import compress, count
from operator import ne
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
_FREE: Final = frozenset({b"x-request-id", b"idempotency-key"})
"""Headers that Nexus knows and whose values may change all the same."""
_NEVER_FREE: Final = (*_PREFIXES, b"sec-", b"access-control-")
"""Headers of browsers decide about access."""
MAX_CHANGES: Final = 8
"""Headers that may differ from those of the last request."""
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
    """Remembers the last head of one connection: client libraries send the same headers again, in the same order.

    The length differs each time, and so may headers that are only passed on, such as a trace or an idempotency key.
    """

    __slots__ = ("_free", "_head", "_length_at", "_raw", "_version")

    def __init__(self) -> None:
        self._raw: tuple[tuple[bytes, bytes], ...] = ()
        self._version = HttpVersion10
        self._length_at = -1
        """The index of Content-Length in the headers, which :class:`Head` does not hold; -1: there is none."""
        self._head: Head | None = None
        self._free: Mapping[int, bytes] | None = None
        """See :func:`_free_headers`; None until a header differs."""

    def read(self, message: RawRequestMessage) -> Head:
        """Return the result of :func:`read_head`, for the same headers the same object as for the last request."""
        head = self._head
        if head is None or self._changes(message) != []:
            raw, self._head = message.raw_headers, None
            head = read_head(message)
            self._length_at = next((i for i, (name, _) in enumerate(raw) if name.lower() == b"content-length"), -1)
            self._raw, self._version, self._head, self._free = raw, message.version, head, None
        return head

    def again(self, message: RawRequestMessage, known: Head, may_pass: Callable[[bytes], bool]) -> Head | None:
        """Return the head of *message* if it needs no checks besides those of the last head; None: it does.

        It is the last head itself if at most the length differs, and otherwise a copy with the new values.

        :param known: the head that was checked; None is returned unless it is the last one.
        :param may_pass: whether the new value of a header that is only passed on may go to a backend.
        """
        changes = self._changes(message) if self._head is known else None
        if not changes:
            return known if changes is not None else None
        if self._free is None:
            self._free = _free_headers(self._raw)
        names = self._free
        new = {names[at]: message.raw_headers[at] for at in changes if at in names}
        is_plain = len(new) == len(changes) and all(_TEXT.match(value) and may_pass(value) for _, value in new.values())
        return _with_values(known, new) if is_plain else None

    def _changes(self, message: RawRequestMessage) -> list[int] | None:
        """Return the indexes of the headers whose values differ from the last head's, except that of the length.

        None: other headers, or too many that differ. A length that is no number is one that differs.
        """
        raw, last, length_at = message.raw_headers, self._raw, self._length_at
        if len(raw) != len(last) or message.version != self._version:
            return None
        changes = [*compress(count(), map(ne, raw, last))]
        if len(changes) > MAX_CHANGES:
            return None
        for at in changes:
            if raw[at][0] != last[at][0]:
                return None
        if length_at in changes and raw[length_at][1].isdigit():
            changes.remove(length_at)
        return changes


def _free_headers(raw_headers: Sequence[tuple[bytes, bytes]]) -> Mapping[int, bytes]:
    """Return the index and lower-case name of each header whose value may change without any other effect on its head.

    Nexus does nothing with them but send them on, or, with the client's id, read it.
    """
    names = [name.lower() for name, _ in raw_headers]
    return {
        at: name
        for at, name in enumerate(names)
        if names.count(name) == 1
        and (name in _FREE or not (name in _KNOWN or b"_" in name or name.startswith(_NEVER_FREE)))
    }


def _with_values(head: Head, new: Mapping[bytes, tuple[bytes, bytes]]) -> Head | None:
    """Return a copy of *head* with *new* headers, by their lower-case names; None unless it has a place for each."""
    forward = [(name, b"%b: %b\r\n" % new[name]) if name in new else (name, line) for name, line in head.forward]
    changed = copy(head)
    changed.forward, changed.prepared = forward, {}
    kept = {name for name, _ in forward}
    for name, (_, value) in new.items():
        if name == b"x-request-id":
            if not _REQUEST_ID.match(value):
                return None
            changed.request_id = value.decode()
        elif name not in kept:
            return None
    return changed


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
