"""A reload is felt by nobody: what is under way ends as it began, and a bad file changes nothing."""

import asyncio
import gc
import weakref

import pytest

from nexus.app.composition.blueprint import build_blueprint
from nexus.config.loading import load
from nexus.errors import NexusError
from nexus.testing.waiting import eventually
from tests.support.bookkeeping import what_is_held
from tests.support.dialects import CHAT, LAST_CHUNK, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, Send, Wait

SLOW_STREAM = [
    ReadRequest(),
    Send(CHAT.stream_head() + chunks(*CHAT.events[:3])),
    Wait(0.15),
    Send(chunks(*CHAT.events[3:]) + LAST_CHUNK),
]

ONE_ANSWER = [ReadRequest(), Send(whole_answer(CHAT.whole, headers="Connection: close\r\n")), Close()]
"""To a request, or to a probe, on a connection that is not kept."""


@pytest.fixture
def reload(tmp_path):
    """Reload the proxy of a scene with a changed text of its configuration."""

    async def reload_with(scene, text):
        file = tmp_path / "nexus.toml"
        file.write_text(text)
        loaded = load(file, environ={}, overrides={"server.port": str(scene.nexus.port)})
        await scene.nexus.reload(build_blueprint(loaded, scene.nexus.blueprint.plugins))

    return reload_with


async def test_a_backend_that_is_removed_finishes_its_streams(start, script, reload, config_text):
    old, new = await script(), await script()
    scene = await start(old=old, new=new)
    old.play(SLOW_STREAM)
    new.play(ONE_ANSWER)
    client = await scene.connect()
    client.send(CHAT, stream=True)
    await client.reader.readuntil(CHAT.events[0])

    await reload(scene, config_text(new=new))
    reply = await scene.ask(CHAT)
    rest = await client.reader.readuntil(b"data: [DONE]\n\n\r\n" + LAST_CHUNK)

    assert reply.headers["x-nexus-backend"] == "new"
    assert rest
    assert [backend.name for backend in scene.nexus.fleet.snapshot.backends] == ["new"]


async def test_a_backend_that_comes_back_is_as_busy_as_it_is(start, script, reload, config_text):
    narrow = {"gpu": {"max_in_flight": 1}}
    gpu, other = await script(), await script()
    scene = await start(gpu=gpu, other=other, options=narrow)
    gpu.play(SLOW_STREAM, ONE_ANSWER)
    other.play(ONE_ANSWER)
    client = await scene.connect()
    client.send(CHAT, stream=True)
    await client.reader.readuntil(CHAT.events[0])

    await reload(scene, config_text(other=other))
    await reload(scene, config_text(gpu=gpu, other=other, options=narrow))
    meanwhile = await scene.ask(CHAT)
    held = scene.backend("gpu").load.in_flight
    await client.reader.readuntil(b"data: [DONE]\n\n\r\n" + LAST_CHUNK)

    assert (held, meanwhile.headers["x-nexus-backend"]) == (1, "other")
    await eventually(lambda: scene.backend("gpu").load.in_flight == 0)


BAD_FILES = {
    "half written": "[server]\nport = ",
    "an unknown key": "[server]\nprot = 1\n",
    "a bad value": "[timeouts]\nconnect_seconds = 0\n",
    "a backend twice": '[[backends]]\nname = "a"\nurl = "http://h"\n[[backends]]\nname = "a"\nurl = "http://i"\n',
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES.keys())
async def test_a_bad_file_changes_nothing(start, script, reload, text):
    gpu = await script()
    scene = await start(gpu=gpu)
    gpu.play([ReadRequest(), Send(CHAT.good_answer)])
    before = scene.nexus.blueprint

    with pytest.raises(NexusError):
        await reload(scene, text)

    assert scene.nexus.blueprint is before
    assert (await scene.ask(CHAT)).status == 200


async def test_who_waits_in_line_goes_to_a_backend_that_a_reload_brings(start, script, reload, config_text):
    busy, new = await script(), await script()
    new.play(ONE_ANSWER)
    scene = await start(busy=busy, options={"busy": {"max_in_flight": 1}})
    busy.play([*SLOW_STREAM[:2], Wait(0.5), *SLOW_STREAM[3:]])
    first, second = await scene.connect(), await scene.connect()
    first.send(CHAT, stream=True)
    await first.reader.readuntil(CHAT.events[0])
    second.send(CHAT)
    await eventually(lambda: what_is_held(scene.nexus)["waiting"])

    await reload(scene, config_text(busy=busy, new=new, options={"busy": {"max_in_flight": 1}}))

    assert (await second.reply()).headers["x-nexus-backend"] == "new"


async def test_a_hundred_reloads_under_load_are_felt_by_nobody(start, simulate, reload, config_text):
    gpus = {f"gpu-{number}": await simulate(f"gpu-{number}", ttft_s=0.002) for number in range(2)}
    scene = await start(**gpus)
    first = weakref.ref(scene.nexus.plane.settings.router)
    is_over = asyncio.Event()

    async def ask_on():
        statuses = []
        while not is_over.is_set():
            reply = await scene.ask(CHAT, stream=bool(len(statuses) % 2))
            statuses.append((reply.status, reply.is_whole))
        return statuses

    async def reload_on():
        for number in range(100):
            await reload(scene, config_text(**gpus, settings={"max_retries": number % 3}))
            await asyncio.sleep(0)
        is_over.set()

    *told, _ = await asyncio.gather(*(ask_on() for _ in range(4)), reload_on())

    assert {answer for statuses in told for answer in statuses} == {(200, True)}
    gc.collect()
    assert first() is None, "the first configuration is still held"
