"""Simulators and the client libraries that talk to them."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from nexus.simulator import Settings, Simulator


@pytest.fixture
async def simulate():
    """Return a function that starts a simulator."""
    async with AsyncExitStack() as running:

        async def start(**settings):
            return await running.enter_async_context(Simulator(Settings(**{"name": "gpu-1", **settings})))

        yield start


class Wire:
    """A raw client connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def ask(self, path, body=None, method="POST", headers=""):
        framing = f"Content-Length: {len(body)}\r\n" if body is not None else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{framing}\r\n"
        self.writer.write(head.encode() + (body or b""))
        await self.writer.drain()

    async def head(self):
        return await self.reader.readuntil(b"\r\n\r\n")

    async def rest(self):
        """Read until EOF; a reset raises."""
        return await self.reader.read()

    async def answer(self):
        """Read a response with Content-Length."""
        head = await self.head()
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        return head, await self.reader.readexactly(int(fields[b"content-length"]))


@pytest.fixture
async def connect():
    """Open a raw connection to a simulator."""
    opened = []

    async def open_wire(simulator):
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port, limit=8 * 1024 * 1024)
        opened.append(writer)
        return Wire(reader, writer)

    yield open_wire
    for writer in opened:
        writer.close()
