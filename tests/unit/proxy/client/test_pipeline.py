"""Requests wait in their order, not too many of them, and what is no request ends the reading."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web import RequestPayloadError

from nexus.proxy.client.pipeline import MOST_WAITING, Incoming

PLAIN = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.fixture
async def incoming():
    loop = asyncio.get_running_loop()
    return Incoming(BaseProtocol(loop), loop)


async def test_those_that_come_while_it_is_full_are_read_later_and_in_order(incoming):
    count = 3 * MOST_WAITING
    wire = b"".join(PLAIN % number for number in range(count))

    incoming.read(wire[:-10])
    waiting = len(incoming)
    incoming.read(wire[-10:])
    paths = [incoming.take()[0].path for _ in range(count)]

    assert (waiting, paths) == (MOST_WAITING, [f"/{number}" for number in range(count)])
    assert (len(incoming), incoming.has_room) == (0, True)


async def test_what_is_malformed_leaves_those_before_it(incoming):
    assert incoming.read(PLAIN % 1 + b"HEAD /\x01 HTTP/1.1\r\n\r\n" + PLAIN % 2)

    assert (len(incoming), incoming.is_deaf, incoming.malformed[1]) == (1, True, True)
    assert not incoming.read(PLAIN % 3)


async def test_the_end_breaks_a_body_that_waits(incoming):
    incoming.read(PLAIN % 1 + HALF)

    assert incoming.end()

    incoming.take()
    _, payload, _ = incoming.take()
    assert isinstance(payload.exception(), RequestPayloadError)


async def test_the_end_in_a_body_that_is_being_read_is_the_end_of_all(incoming):
    incoming.read(HALF)
    incoming.take()

    assert not incoming.end()


async def test_the_end_between_two_requests_breaks_nothing(incoming):
    incoming.read(PLAIN % 1 + b"GET /half-a-head")

    assert incoming.end()
    assert (len(incoming), incoming.read(PLAIN % 2)) == (1, False)
