"""Runs simulators in a thread, for code that blocks or has its own event loop."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

from nexus.simulator.server import Simulator


@contextmanager
def in_thread(*simulators: Simulator) -> Iterator[tuple[Simulator, ...]]:
    """Run *simulators* for the duration of the context. The caller's thread may set their faults."""
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
