"""Runs simulators in a thread of their own, beside a test that blocks or has a loop of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

from nexus.simulator.server import Simulator


@contextmanager
def in_thread(*simulators: Simulator) -> Iterator[tuple[Simulator, ...]]:
    """Start *simulators*, and stop them on leaving. Their faults may be set from the caller's thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulators", daemon=True)
    thread.start()
    try:
        _run(loop, *(simulator.start() for simulator in simulators))
        yield simulators
    finally:
        _run(loop, *(simulator.stop() for simulator in simulators))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(loop: asyncio.AbstractEventLoop, *work: Coroutine[None, None, None]) -> None:
    async def run_all() -> None:
        await asyncio.gather(*work)

    asyncio.run_coroutine_threadsafe(run_all(), loop).result()
