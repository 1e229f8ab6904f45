"""Makes the replies of Nexus itself: a page, or an error in the client's protocol."""

from typing import Final

from nexus import __version__
from nexus.error_codes import CODES
from nexus.errors import RequestError
from nexus.proxy.headers.to_client import NO_BACKEND_LINES, STATUS_LINES, date_line, id_lines
from nexus.wire.protocol import WireProtocol

SAFETY_LINES: Final = b"X-Content-Type-Options: nosniff\r\n"
VERSION_LINE: Final = f"X-Nexus-Version: {__version__}\r\n".encode()
"""Another Nexus recognises the proxy by it, and does not take it for a backend."""

JSON: Final = b"application/json"


def page(  # noqa: PLR0913 - the parts of one reply
    status: int,
    content_type: bytes,
    body: bytes,
    *,
    request_id: str,
    client_request_id: str = "",
    lines: bytes = b"",
    is_head: bool = False,
    close: bool = False,
) -> bytes:
    """Make a whole reply.

    :param client_request_id: empty when the client sent none.
    :param lines: further header lines, each with its CRLF.
    :param is_head: the request was a HEAD: the reply has the length of the body, and no body.
    """
    head = b"%bContent-Type: %b\r\nContent-Length: %d\r\n%b%b%b%b%b%b\r\n" % (
        STATUS_LINES[status],
        content_type,
        len(body),
        date_line(),
        id_lines(request_id, client_request_id),
        VERSION_LINE,
        SAFETY_LINES,
        lines,
        b"Connection: close\r\n" if close else b"",
    )
    return head if is_head else head + body


def error(  # noqa: PLR0913 - the parts of one reply
    protocol: WireProtocol,
    exc: RequestError,
    *,
    request_id: str,
    client_request_id: str = "",
    lines: bytes = b"",
    is_head: bool = False,
) -> bytes:
    """Make an error reply in the client's protocol."""
    extra = lines + NO_BACKEND_LINES
    if exc.retry_after_s is not None:
        extra += b"Retry-After: %d\r\n" % exc.retry_after_s
    if CODES[exc.code].retry == "never" and b"x-should-retry" not in lines:
        extra += b"x-should-retry: false\r\n"
    for name, value in (exc.headers or {}).items():
        extra += f"{name}: {value}\r\n".encode()
    return page(
        exc.status,
        JSON,
        protocol.encode_error(exc, client_request_id or request_id),
        request_id=request_id,
        client_request_id=client_request_id,
        lines=extra,
        is_head=is_head,
        close=exc.close,
    )
