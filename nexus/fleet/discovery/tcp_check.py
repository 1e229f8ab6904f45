"""Checks whether a server accepts TCP connections."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

CONNECT_TIMEOUT_S: Final = 1.0

TcpCheck = Callable[[str, int], Awaitable[bool]]
"""Whether a host accepts connections at a port."""


async def accepts_connections(host: str, port: int) -> bool:
    """Connect to *port* of *host*, close the connection, and return whether it was accepted."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
