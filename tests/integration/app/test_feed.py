"""The live feed admits only viewers with a ticket, sends big fleets whole, and survives breaks."""

import asyncio
import contextlib
import hashlib
import json

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from nexus.app.composition.blueprint import build_blueprint
from nexus.config.loading import load
from nexus.proxy.dispatch.websocket import MAX_UNSENT_BYTES
from nexus.simulator import Settings, Simulator
from nexus.testing.client import chat
from nexus.testing.fleets import table_of
from nexus.testing.proxy import nexus_in_loop
from nexus.testing.waiting import eventually
from tests.support.raw_client import RawClient

MANY = tuple(f"model-{number}" for number in range(300))


@pytest.fixture
async def gpu():
    simulator = Simulator(Settings(name="gpu-1", kind="vllm", models=MANY))
    await simulator.start()
    yield simulator
    await simulator.stop()


@pytest.fixture
async def nexus(gpu):
    async with nexus_in_loop(table_of(gpu)) as running:
        yield running


async def sent(nexus, request):
    """Send the bytes of a request and return what came back."""
    client = await RawClient.connect(nexus.port)
    client.writer.write(request)
    reply = await client.reply()
    client.writer.close()
    return reply


async def post(nexus, path, body=b"", **headers):
    """Return status and JSON of the answer to a POST."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{lines}Content-Length: {len(body)}\r\n\r\n"
    reply = await sent(nexus, head.encode() + body)
    return reply.status, json.loads(reply.body)


async def feed_url(nexus, **headers):
    _, told = await post(nexus, "/admin/feed-ticket", **headers)
    return f"ws://127.0.0.1:{nexus.port}/ws?ticket={told['ticket']}"


async def updates(feed, update_type, *, most=50):
    """Return the data of the next update of a type."""
    for _ in range(most):
        update = json.loads(await feed.recv())
        if update["update_type"] == update_type:
            return update["data"]
    raise AssertionError(f"no {update_type} came")


async def test_a_viewer_gets_a_big_fleet_whole_and_then_the_changes(nexus):
    async with connect(await feed_url(nexus), max_size=None) as feed:
        overview = await updates(feed, "Overview")
        figures = await updates(feed, "Figures")

    assert len(overview["backends"][0]["models"]) == 300
    assert overview["backends"][0]["status"] == "healthy"
    assert figures["backends"].keys() == {"gpu-1"}


async def test_a_request_is_sent_when_it_has_ended(nexus):
    async with connect(await feed_url(nexus), max_size=None) as feed:
        await updates(feed, "Overview")
        body = json.dumps(chat("model-1")).encode()
        status, _ = await post(nexus, "/v1/chat/completions", body, content_type="application/json")
        request = await updates(feed, "RequestComplete")

    assert status == 200
    assert (request["model"], request["backend"], request["status_code"]) == ("model-1", "gpu-1", 200)


async def test_a_viewer_does_not_delay_the_stop_and_is_closed_properly(nexus):
    async with connect(await feed_url(nexus), max_size=None) as feed:
        await updates(feed, "Overview")

        async with asyncio.timeout(10):
            await nexus.stop(drain_s=60.0)
        await feed.wait_closed()

    assert feed.close_code == 1001


async def test_a_drained_backend_is_sent(nexus):
    async with connect(await feed_url(nexus), max_size=None) as feed:
        await updates(feed, "Overview")
        await post(nexus, "/admin/backends/gpu-1/drain")
        (row,) = await updates(feed, "BackendStatus")

    assert (row["name"], row["status"]) == ("gpu-1", "draining")


async def test_a_ticket_admits_one_viewer_once(nexus):
    url = await feed_url(nexus)
    async with connect(url, max_size=None):
        with pytest.raises(InvalidStatus) as refusal:
            await connect(url)

    assert refusal.value.response.status_code == 401


@pytest.mark.parametrize("query", ["", "?ticket=", "?ticket=made-up"])
async def test_without_a_ticket_no_viewer_is_admitted(nexus, query):
    with pytest.raises(InvalidStatus) as refusal:
        await connect(f"ws://127.0.0.1:{nexus.port}/ws{query}")

    assert refusal.value.response.status_code == 401


async def test_a_page_of_another_origin_is_refused_even_with_a_ticket(nexus):
    url = await feed_url(nexus)

    with pytest.raises(InvalidStatus) as refusal:
        await connect(url, origin="http://evil.example")

    assert refusal.value.response.status_code == 403


async def test_another_origin_cannot_ask_for_a_ticket_or_drain(nexus):
    evil = {"origin": "http://evil.example"}

    assert (await post(nexus, "/admin/feed-ticket", **evil))[0] == 403
    assert (await post(nexus, "/admin/backends/gpu-1/drain", **evil))[0] == 403


async def test_a_request_without_a_handshake_is_told_to_upgrade(nexus):
    reply = await sent(nexus, b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert (reply.status, reply.code) == (426, "upgrade_required")


async def test_a_viewer_holds_nothing_when_it_has_left(nexus):
    async with connect(await feed_url(nexus), max_size=None) as feed:
        await updates(feed, "Overview")

    async with connect(await feed_url(nexus), max_size=None) as feed:
        await updates(feed, "Figures")
        assert nexus._dashboard._feed.viewers == 1


async def test_viewers_are_disconnected_when_the_proxy_stops(gpu):
    async with nexus_in_loop(table_of(gpu)) as nexus:
        feed = await connect(await feed_url(nexus), max_size=None)
        await updates(feed, "Overview")

    async for _ in feed:
        pass
    assert feed.close_code == 1001


def with_keys(gpu, *keys):
    """Return the text of a configuration with these administrators."""
    digests = [f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" for key in keys]
    return f"[server]\nadmin_keys = {json.dumps(digests)}\n" + table_of(gpu)


async def reload(nexus, tmp_path, text):
    file = tmp_path / "nexus.toml"
    file.write_text(text)
    loaded = load(file, environ={}, overrides={"server.port": str(nexus.port)})
    await nexus.reload(build_blueprint(loaded, nexus.blueprint.plugins))


async def test_a_revoked_key_ends_its_viewers(gpu, tmp_path):
    old, kept = {"x_api_key": "old"}, {"x_api_key": "kept"}
    async with nexus_in_loop(with_keys(gpu, "old", "kept")) as nexus:
        unused = await feed_url(nexus, **old)
        async with connect(await feed_url(nexus, **old)) as ended, connect(await feed_url(nexus, **kept)) as feed:
            await updates(feed, "Overview")
            await updates(ended, "Overview")

            await reload(nexus, tmp_path, with_keys(gpu, "kept", "new"))

            async with asyncio.timeout(2):
                async for _ in ended:
                    pass
            assert ended.close_code == 1001
            assert await updates(feed, "Figures")
        with pytest.raises(InvalidStatus) as refusal:
            await connect(unused)
        assert refusal.value.response.status_code == 401
        async with connect(await feed_url(nexus, x_api_key="new")) as feed:
            assert await updates(feed, "Overview")


async def test_a_feed_that_needed_no_key_ends_when_one_is_asked_for(gpu, tmp_path):
    async with nexus_in_loop(table_of(gpu)) as nexus, connect(await feed_url(nexus), max_size=None) as feed:
        await updates(feed, "Overview")

        await reload(nexus, tmp_path, with_keys(gpu, "new"))

        async with asyncio.timeout(2):
            async for _ in feed:
                pass
        assert feed.close_code == 1001


async def test_a_kept_connection_is_asked_for_the_new_key(gpu, tmp_path):
    request = b"GET /admin/backends HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: old\r\n\r\n"
    async with nexus_in_loop(with_keys(gpu, "old")) as nexus:
        client = await RawClient.connect(nexus.port)
        client.writer.write(request)
        before = await client.reply()

        await reload(nexus, tmp_path, with_keys(gpu, "new"))

        client.writer.write(request)
        assert (before.status, (await client.reply()).status) == (200, 401)
        client.leave()


async def handshake(nexus):
    """Return the bytes by which a viewer begins."""
    target = (await feed_url(nexus)).rpartition("/")[2]
    return (
        f"GET /{target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("after_s", [0.0, 0.05])
async def test_a_viewer_that_closes_its_writing_side_has_left(nexus, after_s):
    client = await RawClient.connect(nexus.port)
    client.writer.write(await handshake(nexus))
    await asyncio.sleep(after_s)

    client.writer.write_eof()

    async with asyncio.timeout(2):
        with contextlib.suppress(ConnectionError):
            await client.reader.read()
    client.leave()
    await eventually(lambda: nexus._dashboard._feed.viewers == 0)


async def test_a_viewer_that_pings_and_reads_nothing_costs_no_more_memory(nexus):
    client = await RawClient.connect(nexus.port, receive_buffer=4096)
    client.writer.write(await handshake(nexus))
    await client.reader.readuntil(b"\r\n\r\n")
    client.reader._transport.pause_reading()
    pings = b"\x89\xfd\0\0\0\0" + b"x" * 125

    for _ in range(100):
        client.writer.write(pings * 1000)
        await asyncio.sleep(0)
        await client.writer.drain()
    [connection] = nexus._server.connections
    unsent = connection.unsent

    assert MAX_UNSENT_BYTES < unsent < 2 * MAX_UNSENT_BYTES
    client.reset()
