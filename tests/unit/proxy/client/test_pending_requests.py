"""Requests wait in order and in limited number, and a malformed one ends the reading."""

import asyncio

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.web import RequestPayloadError

from nexus.proxy.client.request_reader import MAX_WAITING, PendingRequests

PLAIN = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.fixture
async def pipeline():
    loop = asyncio.get_running_loop()
    return PendingRequests(BaseProtocol(loop), loop)


async def test_requests_that_arrive_while_it_is_full_are_read_later_and_in_order(pipeline):
    count = 3 * MAX_WAITING
    wire = b"".join(PLAIN % number for number in range(count))

    pipeline.read(wire[:-10])
    waiting = len(pipeline.waiting)
    pipeline.read(wire[-10:])
    paths = [pipeline.take()[0].path for _ in range(count)]

    assert (waiting, paths) == (MAX_WAITING, [f"/{number}" for number in range(count)])
    assert (len(pipeline.waiting), pipeline.has_room) == (0, True)


async def test_a_malformed_request_leaves_those_before_it(pipeline):
    assert pipeline.read(PLAIN % 1 + b"HEAD /\x01 HTTP/1.1\r\n\r\n" + PLAIN % 2)

    assert (len(pipeline.waiting), pipeline.is_closed, pipeline.malformed[1]) == (1, True, True)
    assert not pipeline.read(PLAIN % 3)


async def test_the_end_breaks_the_body_of_a_waiting_request(pipeline):
    pipeline.read(PLAIN % 1 + HALF)

    assert pipeline.end()

    pipeline.take()
    _, payload, _ = pipeline.take()
    assert isinstance(payload.exception(), RequestPayloadError)


async def test_the_end_in_the_body_of_a_taken_request_ends_the_connection(pipeline):
    pipeline.read(HALF)
    pipeline.take()

    assert not pipeline.end()


async def test_the_end_between_two_requests_breaks_nothing(pipeline):
    pipeline.read(PLAIN % 1 + b"GET /half-a-head")

    assert pipeline.end()
    assert (len(pipeline.waiting), pipeline.read(PLAIN % 2)) == (1, False)
