"""The names of requests: one that Nexus makes, which nobody can guess, and beside it the one that a client sent."""

import os
from collections.abc import Iterator
from typing import Final

ID_BYTES: Final = 16
MADE_AT_ONCE: Final = 256
"""Ids for which the system is asked for randomness in one call."""


def _ids() -> Iterator[str]:
    digits = 2 * ID_BYTES
    while True:
        random = os.urandom(MADE_AT_ONCE * ID_BYTES).hex()
        for start in range(0, len(random), digits):
            yield f"req-{random[start : start + digits]}"


_made: Final = _ids()


def new_request_id() -> str:
    """Return an id that no other request has, and that nobody can guess from those that they have seen."""
    return next(_made)


def id_lines(request_id: str, client_request_id: str) -> bytes:
    """Return the lines for the head of an answer that name its request.

    Client libraries show ``X-Request-Id`` as the request's id, and clients that sent one look for their own there.

    :param client_request_id: empty when the client sent none.
    """
    if not client_request_id:
        return b"X-Request-Id: %b\r\n" % request_id.encode()
    return b"X-Request-Id: %b\r\nX-Nexus-Request-Id: %b\r\n" % (client_request_id.encode(), request_id.encode())
