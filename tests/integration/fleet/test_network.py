"""The sockets for mDNS are closed when a search is stopped, however often that is requested."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from nexus.fleet.discovery.mdns.network import join_network, leave_network
from nexus.fleet.discovery.search import Search
from nexus.fleet.discovery.sightings import Sightings


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


async def search_until_cancelled():
    network = join_network()
    try:
        await asyncio.Event().wait()
    finally:
        await leave_network(network)


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("turns_later", [0, 1, 3])
async def test_no_socket_stays_open_when_a_search_is_cancelled_twice(turns, turns_later):
    before = open_files()
    searching = asyncio.ensure_future(search_until_cancelled())
    for _ in range(turns):
        await asyncio.sleep(0)

    searching.cancel()
    for _ in range(turns_later):
        await asyncio.sleep(0)
    searching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await searching
    await asyncio.sleep(0.01)

    assert open_files() == before


class SlowToClose:
    """Takes some loop turns to close."""

    name = "slow"
    interval_s = 1.0
    is_certain = False
    needs_approval = False

    def __init__(self):
        self.is_open = False

    async def watch(self):
        self.is_open = True
        try:
            yield ()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            self.is_open = False


async def test_a_search_that_is_stopped_waits_for_discoverers_that_it_dropped():
    discoverer = SlowToClose()
    search = Search(Sightings(), lambda: None)
    search.follow([discoverer])
    await asyncio.sleep(0.01)
    assert discoverer.is_open

    search.follow([])
    await search.stop()

    assert not discoverer.is_open
