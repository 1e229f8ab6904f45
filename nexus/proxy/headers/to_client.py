"""Which headers pass, and in what words: the head of a request to a backend, the head of an answer to a client."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, get_args

import msgspec

from nexus.dialing.upstream_settings import PathMap, UpstreamSettings
from nexus.domain.backend import Backend
from nexus.domain.kinds import BackendKind
from nexus.domain.model import Zone
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.observability.tracing import trace as tracing
from nexus.proxy.headers.from_client import Head
from nexus.proxy.headers.rules import NOT_FOR_CLIENTS, NOT_FOR_CLIENTS_PREFIXES

_STATUS_LINES: Final = {status: f"HTTP/1.1 {status} \r\n".encode() for status in range(200, 600)} | {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}


class RequestStamp(msgspec.Struct, frozen=True):
    """The lines of a request's head that are the same for every request to one backend."""

    host_line: bytes
    own_lines: bytes
    """Its key and what else is configured."""
    replaces_credentials: bool
    """Whether credentials are among them, so that those of a client do not go there."""
    path: PathMap
    dropped: frozenset[bytes]
    """What a client may not send there, or what the configuration says in its place."""


def stamp_of(kind: BackendKind, url: str, authority: str, access: UpstreamSettings) -> RequestStamp:
    """Prepare what all requests to the backend at *url* have in common."""
    own = access.headers_for(kind)
    return RequestStamp(
        host_line=f"Host: {authority}\r\n".encode(),
        own_lines="".join(f"{name}: {value}\r\n" for name, value in own.items()).encode(),
        replaces_credentials=access.replaces_credentials,
        path=access.path_of(url),
        dropped=frozenset(name.lower().replace("_", "-").encode() for name in (*kind.dropped_headers, *own)),
    )


def request_head(  # noqa: PLR0913 - the parts of one head
    stamp: RequestStamp,
    head: Head,
    target: bytes,
    *,
    method: bytes = b"POST",
    body_length: int,
    request_id: str,
    may_pass_credentials: bool,
    trace_lines: bytes | None = None,
) -> bytes:
    """Make the head of a request to a backend from the client's and what is the backend's own.

    :param target: path, as the backend knows it, and query, as the client sent it.
    :param may_pass_credentials: whether the client's own key may go to a backend that has none configured.
    :param trace_lines: what takes the place of what the client says of its trace; None: nothing.
    """
    if method != b"POST":
        lines = _lines_of(stamp, head, target, trace_lines, method=method, may_pass_credentials=may_pass_credentials)
        length = b"Content-Length: %d\r\n" % body_length if body_length else b""
        return b"%bX-Request-Id: %b\r\nX-Nexus-Hops: %d\r\n%b\r\n" % (
            lines,
            request_id.encode(),
            head.hops + 1,
            length,
        )
    made = head.made.get(id(stamp))
    if trace_lines is not None:
        lines = _lines_of(stamp, head, target, trace_lines, may_pass_credentials=may_pass_credentials)
    elif made is not None and made[0] is stamp and made[1] == target and made[2] is may_pass_credentials:
        lines = made[3]
    else:
        lines = _lines_of(stamp, head, target, None, may_pass_credentials=may_pass_credentials)
        if len(head.made) >= MAX_PREPARED:
            head.made.clear()
        head.made[id(stamp)] = stamp, target, may_pass_credentials, lines
    return b"%bX-Request-Id: %b\r\nX-Nexus-Hops: %d\r\nContent-Length: %d\r\n\r\n" % (
        lines,
        request_id.encode(),
        head.hops + 1,
        body_length,
    )


MAX_PREPARED: Final = 8
"""Backends for which one connection remembers what the last head of its client has become."""


def _lines_of(  # noqa: PLR0913 - the parts of one head
    stamp: RequestStamp,
    head: Head,
    target: bytes,
    trace_lines: bytes | None,
    *,
    method: bytes = b"POST",
    may_pass_credentials: bool,
) -> bytes:
    """Make the part of a request's head that is the same for all requests with the client's *head*."""
    path = stamp.path.of(target.decode("latin-1")).encode("latin-1")
    lines = [b"%b %b HTTP/1.1\r\n" % (method, path), stamp.host_line, stamp.own_lines]
    dropped = stamp.dropped
    if trace_lines is not None:
        dropped = dropped | tracing.HEADERS
        lines.append(trace_lines)
    if dropped:
        # Some servers read an underscore in a name as a hyphen.
        lines += [line for name, line in head.forward if name.replace(b"_", b"-") not in dropped]
    else:
        lines += [line for _, line in head.forward]
    if may_pass_credentials and not stamp.replaces_credentials:
        lines += [line for name, line in head.credentials if name not in dropped]
    return b"".join(lines)


def backend_lines(backend: Backend) -> Mapping[Zone, bytes]:
    """Make the response header lines that say which backend answered, by the zone of the model that did."""
    kind = "local" if backend.kind.is_local else "cloud"
    lines = f"X-Nexus-Backend: {backend.name}\r\nX-Nexus-Backend-Id: {backend.id}\r\nX-Nexus-Backend-Type: {kind}\r\n"
    return {zone: f"{lines}X-Nexus-Privacy-Zone: {zone}\r\n".encode() for zone in get_args(Zone)}


SANDBOX_LINE: Final = b"Content-Security-Policy: sandbox\r\n"
"""A browser that shows the answer as a page runs nothing of it, and takes it for a page of no web origin."""

NO_BACKEND_LINES: Final = b"X-Nexus-Backend: none\r\nX-Nexus-Backend-Type: none\r\nX-Nexus-Route-Reason: none\r\n"


def status_line(status: int) -> bytes:
    """Return the status line in our own words: a backend's reason phrase is not passed on."""
    return _STATUS_LINES[status]


def passed_lines(headers: list[tuple[bytes, bytes]], request_id: bytes) -> bytes:
    """Return the header lines of an answer that go on to the client.

    :raises UpstreamError: PROTOCOL when a value holds what no header may.
    """
    lines: list[bytes] = []
    named = b""
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"connection":
            named = named + b"," + value.lower() if named else value.lower()
        elif lowered in _REWORDED:
            lines.append(_REWORDED[lowered](value, request_id))
        elif lowered not in NOT_FOR_CLIENTS and not lowered.startswith(_PREFIXES):
            lines.append(b"%b: %b\r\n" % (name, value))
    if named not in (b"", b"close", b"keep-alive"):
        tokens = {token.strip() for token in named.split(b",")}
        lines = [line for line in lines if line.partition(b":")[0].lower() not in tokens]
    block = b"".join(lines)
    if not _GOOD_BLOCK.match(block):
        raise UpstreamError(UpstreamFault.PROTOCOL, "a header of the answer holds control characters")
    return block


def _upstream_request_id(value: bytes, request_id: bytes) -> bytes:
    # Ours answers the client's; the backend's own is what its operator will ask for.
    return b"" if value == request_id else b"X-Upstream-Request-Id: %b\r\n" % value


def _retry_after(value: bytes, _request_id: bytes) -> bytes:
    seconds = retry_after_s(value)
    return b"" if seconds is None else b"Retry-After: %d\r\n" % seconds


def _retry_after_ms(value: bytes, _request_id: bytes) -> bytes:
    if not value.isdigit():
        return b""
    return b"retry-after-ms: %d\r\n" % min(MAX_RETRY_AFTER_S * 1000, int(value[:MAX_DIGITS]))


_PREFIXES: Final = tuple(NOT_FOR_CLIENTS_PREFIXES)
_REWORDED: Final[Mapping[bytes, Callable[[bytes, bytes], bytes]]] = {
    b"x-request-id": _upstream_request_id,
    b"retry-after": _retry_after,
    b"retry-after-ms": _retry_after_ms,
}
_GOOD_BLOCK: Final = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]*\r\n)*\Z")
MAX_RETRY_AFTER_S: Final = 300
MAX_DIGITS: Final = 12
"""More of them mean no other wait, and are slow to read."""


def retry_after_s(value: bytes) -> int | None:
    """Read a Retry-After header, seconds or a date, clamped to [0, 300]; None when it is neither."""
    text = value.decode("latin-1").strip()
    if text.isdecimal() and text.isascii():
        return min(MAX_RETRY_AFTER_S, int(text[:MAX_DIGITS]))
    try:
        left = parsedate_to_datetime(text).timestamp() - datetime.now(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return round(min(MAX_RETRY_AFTER_S, max(0.0, left)))


def refuse_bad_head(status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Raise UpstreamError (PROTOCOL) when the head of an answer is none that may be passed on or understood."""
    if not 200 <= status < 600 or 300 <= status < 400:
        raise UpstreamError(UpstreamFault.PROTOCOL, f"answered with status {status}", status=status)
    codings = [value.strip().lower() for name, value in headers if name.lower() == b"transfer-encoding"]
    if codings and codings != [b"chunked"]:
        raise UpstreamError(UpstreamFault.PROTOCOL, "answered with an unknown transfer coding")
