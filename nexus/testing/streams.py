"""What asyncio's streams need so that a connection may end in any way."""

import asyncio
from typing import Any


def allow_any_end(writer: asyncio.StreamWriter) -> None:
    """Look at how the connection of *writer* ends, as soon as it does.

    The streams keep that in a future which only their finaliser looks at. When the garbage collector happens to come to
    the future first, a reset is reported as an error that nobody has seen.
    """
    protocol: Any = writer.transport.get_protocol()
    closed: asyncio.Future[None] = protocol._closed  # noqa: SLF001 - no other way to it waits for nothing
    closed.add_done_callback(_look_at)


def _look_at(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()
