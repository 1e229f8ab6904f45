"""A deadline for answers of the server that allows for a busy event loop."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

LATE_FACTOR: Final = 4
"""About how many turns of the event loop it takes to read an answer that has arrived."""


@asynccontextmanager
async def answered_within(seconds: float) -> AsyncGenerator[None]:
    """Raise TimeoutError if the body takes longer than *seconds*.

    If the event loop itself is late, the answer may have arrived without being read: then the body gets as much more
    time as some further turns take, at most *seconds*.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    async with asyncio.timeout(None) as scope:

        def expire() -> None:
            now = loop.time()
            scope.reschedule(now + min(LATE_FACTOR * (now - due), seconds))

        timer = loop.call_at(due, expire)
        try:
            yield
        finally:
            timer.cancel()
