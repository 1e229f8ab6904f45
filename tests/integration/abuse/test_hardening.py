"""What the edge insists on before it serves anybody."""

import asyncio
import sys


async def test_nexus_does_not_start_on_a_parser_with_known_holes(tmp_path):
    nexus = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nexus", "--port", "1", "--no-discovery"),
        env={"AIOHTTP_NO_EXTENSIONS": "1"},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )

    said, _ = await nexus.communicate()

    assert nexus.returncode not in (0, None)
    assert b"C parser" in said
    assert b"Traceback" not in said


async def test_a_refused_client_has_time_to_read_why(front, raw):
    client = await front.connect()
    client.writer.write(raw("Content-Length: 100000000000"))
    reply = await client.reply()

    # It goes on sending, as one does who has not read yet: the answer must not be lost to a reset.
    client.writer.write(b" " * 100_000)
    await client.writer.drain()

    assert (reply.status, await client.reader.read()) == (413, b"")


async def test_an_idle_connection_is_kept_and_then_closed(start_front, get):
    front = await start_front(timeouts="keepalive_seconds = 0.4\nheaders_seconds = 0.1")
    client = await front.connect()
    client.writer.write(get("/health"))
    await client.reply()

    await asyncio.sleep(0.2)
    client.writer.write(get("/health"))
    again = await client.reply()

    assert again.status == 200
    async with asyncio.timeout(2.0):
        assert await client.reader.read() == b""


async def test_a_defect_of_ours_is_told_in_the_log_and_not_to_the_client(start_front, get, monkeypatch):
    front = await start_front()

    def fail(*_):
        raise RuntimeError("a defect with c4n4ry in it")

    monkeypatch.setattr(front.nexus._handler._pages, "respond", fail)
    [reply] = await front.all_replies(get("/health"))
    monkeypatch.undo()

    assert (reply.status, reply.code, reply.headers["connection"]) == (500, "internal_error", "close")
    assert b"c4n4ry" not in reply.body
    assert [line["log_level"] for line in front.lines("request_crashed")] == ["error"]
    front.log.clear()
