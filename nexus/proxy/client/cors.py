"""Makes the header lines by which browsers let pages of allowed web origins use Nexus."""

from typing import Final

from aiohttp.http import RawRequestMessage

from nexus.proxy.client.replies import VERSION_LINE
from nexus.proxy.headers.from_client import Head
from nexus.proxy.headers.to_client import date_line

MAX_AGE_S: Final = 600

_PERMISSIONS: Final = (
    # The star covers all headers but Authorization. The request's list is not repeated, as nothing checks it.
    b"Access-Control-Allow-Methods: GET, HEAD, POST, DELETE\r\n"
    b"Access-Control-Allow-Headers: Authorization, *\r\n"
    b"Access-Control-Max-Age: %d\r\n" % MAX_AGE_S
)
_PRIVATE_NETWORK: Final = b"Access-Control-Allow-Private-Network: true\r\n"


def reply_lines(origin: bytes) -> bytes:
    """Return the lines that let a page of *origin*, an allowed one, read the reply.

    Credentials are never allowed: Nexus sets no cookies, and a page with a key sends it itself.
    """
    return b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n" % origin


def is_preflight(message: RawRequestMessage, head: Head) -> bool:
    """Whether this is a browser's request for permission, which it sends without the page's key."""
    return message.method == "OPTIONS" and head.origin != b"" and "Access-Control-Request-Method" in message.headers


def preflight_reply(message: RawRequestMessage, cors_lines: bytes, ids: bytes, *, close: bool) -> bytes:
    """Make the reply to a preflight of an allowed origin.

    :param cors_lines: the result of :func:`reply_lines`.
    :param ids: the lines that identify the request.
    """
    return b"HTTP/1.1 204 No Content\r\n%b%b%b%b%b%b%b\r\n" % (
        date_line(),
        ids,
        VERSION_LINE,
        cors_lines,
        _PERMISSIONS,
        _PRIVATE_NETWORK if "Access-Control-Request-Private-Network" in message.headers else b"",
        b"Connection: close\r\n" if close else b"",
    )
