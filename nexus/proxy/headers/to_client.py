"""Makes the head of a reply to a client: which headers of a backend's response pass, and which lines Nexus adds."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Final, get_args

from nexus.domain.backend import Backend
from nexus.domain.model import Zone
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.headers.rules import NOT_FOR_CLIENTS, NOT_FOR_CLIENTS_PREFIXES

SANDBOX_LINE: Final = b"Content-Security-Policy: sandbox\r\n"
"""A browser that shows the reply as a page runs no script in it, and treats it as a page without a web origin."""
NO_BACKEND_LINES: Final = b"X-Nexus-Backend: none\r\nX-Nexus-Backend-Type: none\r\nX-Nexus-Route-Reason: none\r\n"
MAX_RETRY_AFTER_S: Final = 300
MAX_DIGITS: Final = 12
"""A number with more digits is clamped all the same, and is slow to parse."""

STATUS_LINES: Final = {status: f"HTTP/1.1 {status} \r\n".encode() for status in range(200, 600)} | {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus if status >= 200
}


def id_lines(request_id: str, client_request_id: str) -> bytes:
    """Return the lines that identify the request.

    Client libraries show ``X-Request-Id`` as the id of the request; a client that sent one expects its own there.

    :param client_request_id: empty when the client sent none.
    """
    if not client_request_id:
        return b"X-Request-Id: %b\r\n" % request_id.encode()
    return b"X-Request-Id: %b\r\nX-Nexus-Request-Id: %b\r\n" % (client_request_id.encode(), request_id.encode())


def backend_lines(backend: Backend) -> Mapping[Zone, bytes]:
    """Return the lines that name the backend, by the zone of the model that answers."""
    kind = "local" if backend.kind.is_local else "cloud"
    lines = f"X-Nexus-Backend: {backend.name}\r\nX-Nexus-Backend-Id: {backend.id}\r\nX-Nexus-Backend-Type: {kind}\r\n"
    return {zone: f"{lines}X-Nexus-Privacy-Zone: {zone}\r\n".encode() for zone in get_args(Zone)}


class _LastDate:
    unix_s = 0
    line = b""


def date_line() -> bytes:
    """Return the ``Date`` line (RFC 9110, 6.6.1), which is made once a second."""
    unix_s = int(time.time())  # noqa: TID251 - the header carries the wall clock
    if unix_s != _LastDate.unix_s:
        _LastDate.line = b"Date: %b\r\n" % formatdate(unix_s, usegmt=True).encode()
        _LastDate.unix_s = unix_s
    return _LastDate.line


def passed_lines(headers: list[tuple[bytes, bytes]], request_id: bytes) -> bytes:
    """Return the header lines of a backend's response that are passed on to the client.

    :raises UpstreamError: PROTOCOL: a value holds characters that no header may have.
    """
    lines: list[bytes] = []
    named = b""
    for name, value in headers:
        rule = _rule_for(name)
        if isinstance(rule, bytes):
            if rule:
                lines.append(b"%b%b\r\n" % (rule, value))
        elif rule is None:
            named = named + b"," + value.lower() if named else value.lower()
        elif line := rule(value, request_id):
            lines.append(line)
    if named not in (b"", b"close", b"keep-alive"):
        tokens = {token.strip() for token in named.split(b",")}
        lines = [line for line in lines if line.partition(b":")[0].lower() not in tokens]
    block = b"".join(lines)
    if block.translate(None, _GOOD_BYTES) != b"\r\n" * len(lines):
        raise UpstreamError(UpstreamFault.PROTOCOL, "a header of the response holds control characters")
    return block


@lru_cache(maxsize=512)
def _rule_for(name: bytes) -> bytes | Callable[[bytes, bytes], bytes] | None:
    """Return what becomes of each header *name*: names repeat, while the values of ids, dates and lengths do not.

    Bytes begin the line that is passed on; empty ones drop it. A function of the value and the request's id makes the
    line. None: the value names other headers that are not passed on.
    """
    lowered = name.lower()
    if lowered == b"connection":
        return None
    if lowered in _REWRITTEN:
        return _REWRITTEN[lowered]
    return b"" if lowered in NOT_FOR_CLIENTS or lowered.startswith(_PREFIXES) else name + b": "


def _upstream_request_id(value: bytes, request_id: bytes) -> bytes:
    # X-Request-Id carries the id of the exchange; the operator of the backend needs the one that it chose itself.
    return b"" if value == request_id else b"X-Upstream-Request-Id: %b\r\n" % value


def _retry_after(value: bytes, _request_id: bytes) -> bytes:
    seconds = retry_after_s(value)
    return b"" if seconds is None else b"Retry-After: %d\r\n" % seconds


def _retry_after_ms(value: bytes, _request_id: bytes) -> bytes:
    if not value.isdigit():
        return b""
    return b"retry-after-ms: %d\r\n" % min(MAX_RETRY_AFTER_S * 1000, int(value[:MAX_DIGITS]))


_PREFIXES: Final = tuple(NOT_FOR_CLIENTS_PREFIXES)
_REWRITTEN: Final[Mapping[bytes, Callable[[bytes, bytes], bytes]]] = {
    b"x-request-id": _upstream_request_id,
    b"retry-after": _retry_after,
    b"retry-after-ms": _retry_after_ms,
}
_GOOD_BYTES: Final = bytes((*b"\t", *range(0x20, 0x7F), *range(0x80, 0x100)))
"""Those that a name or a value may have; a line has a CR and an LF besides, at its end."""


def retry_after_s(value: bytes) -> int | None:
    """Return the seconds of a Retry-After header, which may be a date, clamped to [0, 300]; None: it is malformed."""
    text = value.decode("latin-1").strip()
    if text.isdecimal() and text.isascii():
        return min(MAX_RETRY_AFTER_S, int(text[:MAX_DIGITS]))
    try:
        left = parsedate_to_datetime(text).timestamp() - datetime.now(UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return round(min(MAX_RETRY_AFTER_S, max(0.0, left)))
