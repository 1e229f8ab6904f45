"""What a browser is told when a page of another web origin speaks to Nexus; only of origins that the operator lists."""

from typing import Final

from aiohttp.http import RawRequestMessage

from nexus.proxy.client.replies import VERSION_LINE
from nexus.proxy.headers.date import date_line
from nexus.proxy.headers.from_client import Head

MAX_AGE_S: Final = 600

_PERMISSIONS: Final = (
    # A star stands for every header but Authorization. What was asked for is not repeated: nothing of it is read.
    b"Access-Control-Allow-Methods: GET, HEAD, POST, DELETE\r\n"
    b"Access-Control-Allow-Headers: Authorization, *\r\n"
    b"Access-Control-Max-Age: %d\r\n" % MAX_AGE_S
)
_PRIVATE_NETWORK: Final = b"Access-Control-Allow-Private-Network: true\r\n"


def answer_lines(origin: bytes) -> bytes:
    """Return the header lines by which a page of *origin*, which must be an allowed one, may read the answer.

    Credentials are never allowed: Nexus sets no cookies, and a page that has a key sends it itself.
    """
    return b"Access-Control-Allow-Origin: %b\r\nAccess-Control-Expose-Headers: *\r\nVary: Origin\r\n" % origin


def is_preflight(message: RawRequestMessage, head: Head) -> bool:
    """Whether a browser asks on a page's behalf, which it does without the page's key."""
    return message.method == "OPTIONS" and head.origin != b"" and "Access-Control-Request-Method" in message.headers


def preflight_answer(message: RawRequestMessage, cors_lines: bytes, ids: bytes, *, close: bool) -> bytes:
    """Make the answer to a preflight from an allowed origin.

    :param cors_lines: what :func:`answer_lines` returned for it.
    :param ids: the lines that name the request.
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
