"""A deadline for answers, which a busy event loop does not miss for the server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

LATE_FACTOR: Final = 4
"""An answer that is there is read in about so many turns of the event loop."""


@asynccontextmanager
async def answered_within(seconds: float) -> AsyncGenerator[None]:
    """Raise TimeoutError if the body takes longer than *seconds*.

    If the event loop itself comes late to the deadline, the answer may be there unread: then the body gets some turns
    more, for at most *seconds* again.
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
