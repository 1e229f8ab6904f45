"""The answer to a client for which there is no file descriptor to spare: sent at once, whatever it asks for."""

import asyncio
import os
from contextlib import suppress
from typing import Final

_BODY: Final = (
    b'{"error":{"message":"the proxy has no file descriptor left for another connection","type":"server_error",'
    b'"param":null,"code":"overloaded"}}'
)
ANSWER: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    b"Retry-After: 1\r\nConnection: close\r\n\r\n%b" % (len(_BODY), _BODY)
)
_MOST_READ_BYTES: Final = 64 * 1024


def turn_away(transport: asyncio.Transport) -> None:
    """Response the connection of *transport*, which has just been made, and close it."""
    transport.set_protocol(asyncio.Protocol())
    # What is left unread resets the connection when it is closed, and the client may lose the answer.
    with suppress(OSError):
        os.read(transport.get_extra_info("socket").fileno(), _MOST_READ_BYTES)
    transport.write(ANSWER)
    transport.close()
