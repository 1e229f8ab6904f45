"""However an exchange ends, its end frees all of it: nothing is left to the garbage collector."""

import asyncio
import gc
from collections import Counter

import pytest

from nexus.proxy.dispatch.websocket import text_frame
from nexus.testing.ports import free_port
from nexus.testing.waiting import eventually
from tests.support.bookkeeping import wait_until_nothing_is_held
from tests.support.dialects import CHAT, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, Reset, Send, Stall

OF_TESTS = ("nexus.simulator.", "nexus.testing.")
BEGUN = [ReadRequest(), Send(CHAT.stream_head() + chunks(*CHAT.events[:2]))]

ENDINGS = {
    "answered": [ReadRequest(), Send(CHAT.good_answer), Close()],
    "streamed": [ReadRequest(), Send(CHAT.good_stream), Close()],
    "truncated": [*BEGUN, Reset()],
    "hung up": [ReadRequest(), Close()],
    "refused": [ReadRequest(), Send(whole_answer(b'{"error":{"message":"no"}}', status=500)), Close()],
    "garbage": [ReadRequest(), Send(bytes(range(256))), Close()],
    "a header too long": [ReadRequest(), Send(b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * 10_000)), Close()],
    "silent": [ReadRequest(), Stall()],
}


@pytest.mark.parametrize("steps", ENDINGS.values(), ids=ENDINGS.keys())
async def test_an_exchange_that_has_ended_leaves_nothing_to_the_garbage_collector(start, script, steps):
    backend, other = await script(), await script()
    scene = await start(backend=backend, other=other, settings={"first_byte_s": 0.05, "max_retries": 1})
    backend.play(steps)
    other.play(steps)
    stream = steps is ENDINGS["streamed"] or steps is ENDINGS["truncated"]

    with LeftToTheCollector() as left:
        client = await scene.connect()
        client.send(CHAT, stream=stream)
        await client.reply()
        client.leave()
        await gone(scene)

    assert left.found == {}


@pytest.mark.parametrize("how", ["leave", "reset"])
@pytest.mark.parametrize("steps", [BEGUN, [ReadRequest(), Stall()], None], ids=["streaming", "waiting", "idle"])
async def test_a_client_that_leaves_leaves_nothing_to_the_garbage_collector(start, script, steps, how):
    backend = await script()
    scene = await start(backend=backend)
    backend.play(steps or ENDINGS["answered"])

    with LeftToTheCollector() as left:
        client = await scene.connect()
        client.send(CHAT, stream=steps is BEGUN)
        if steps is None:
            await client.reply()
        elif steps is BEGUN:
            await client.head()
        else:
            await asyncio.sleep(0.02)
        getattr(client, how)()
        await gone(scene)

    assert left.found == {}


async def test_a_backend_that_is_not_reached_leaves_nothing_to_the_garbage_collector(start, script):
    backend = await script()
    options = {"backend": {"url": f"http://127.0.0.1:{free_port()}"}}
    scene = await start(backend=backend, options=options, settings={"max_retries": 1})

    with LeftToTheCollector() as left:
        assert (await scene.ask(CHAT)).status == 503
        await gone(scene)

    assert left.found == {}
    assert not left.has("ConnectionRefusedError")


def test_frames_for_viewers_leave_nothing_to_the_garbage_collector():
    gc.collect()
    with LeftToTheCollector() as left:
        for number in range(3):
            text_frame(f"message {number}")
        assert left.alive("wsproto.frame_protocol.FrameProtocol") <= 1


async def gone(scene):
    """Wait until the connections have ended, too."""
    await wait_until_nothing_is_held(scene.nexus)
    scene.nexus.plane.upstreams.close()
    for backend in scene.backends:
        await backend.ended()
    await eventually(lambda: not scene.nexus._server.connections)
    # What the loop itself still refers to.
    await asyncio.sleep(0.02)


class LeftToTheCollector:
    """Counts the objects of the proxy that become garbage meanwhile and are not freed, by type."""

    def __init__(self):
        self.found = {}
        self._all = Counter()

    def __enter__(self):
        gc.collect()
        gc.disable()
        return self

    def __exit__(self, *_):
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        gc.enable()
        types = Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in gc.garbage)
        gc.garbage.clear()
        self._all = types
        self.found = {
            name: count for name, count in types.items() if name.startswith("nexus.") and not name.startswith(OF_TESTS)
        }

    def has(self, name):
        """Whether there are objects of a type of that name, whatever module it is from."""
        return any(each.endswith(f".{name}") for each in self._all)

    def alive(self, name):
        """Return how many objects of the type of that name there are now, garbage or not."""
        return sum(f"{type(it).__module__}.{type(it).__qualname__}" == name for it in gc.get_objects())
