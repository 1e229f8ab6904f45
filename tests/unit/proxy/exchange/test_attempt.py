"""What one attempt was lent is given back once, and what it came to is told."""

import asyncio

import pytest

from nexus.domain.outcome import Ending
from nexus.domain.request import TokenUsage
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.response import Response
from nexus.routing.stage.api import Hold
from nexus.testing.builders import make_backend

HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 900\r\n\r\nrole\n"


class FakeHold(Hold):
    def __init__(self):
        self.outcomes = []
        self.cost = None

    def settle(self, outcome):
        self.outcomes.append(outcome)

    def cost_usd(self):
        return self.cost if self.outcomes else None


@pytest.fixture
def hold():
    return FakeHold()


@pytest.fixture
async def make_attempt(make_reserved, make_upstream, hold):
    def make(backend=None):
        backend = backend or make_backend("gpu-1")
        return Attempt(make_reserved(backend, holds=(hold,)), make_upstream(backend), started_at=100.0)

    return make


@pytest.fixture
async def begin(connection, ask):
    """Ask, and let the backend say *wire*."""

    def begin(attempt, wire=HELLO, *, wants_stream=False):
        response = Response(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(wants_stream))
        attempt.begin(connection, response)
        connection.send(b"", b"", response)
        connection.data_received(wire)
        return response

    return begin


async def test_before_it_is_asked_there_is_nothing_to_know(make_attempt):
    attempt = make_attempt()

    assert attempt.asked is None
    for name in ("response", "connection"):
        with pytest.raises(LookupError):
            getattr(attempt, name)


async def test_a_whole_answer_leaves_its_connection_to_the_next(make_attempt, begin, connection):
    attempt = make_attempt()
    begin(attempt)

    attempt.let_go(may_reuse=True)
    attempt.let_go(may_reuse=True)

    assert attempt.upstream.pool.take_idle() is connection
    assert attempt.upstream.pool.take_idle() is None


async def test_a_failed_one_does_not(make_attempt, begin, transport):
    attempt = make_attempt()
    response = begin(attempt, HELLO[:-1])

    attempt.let_go(may_reuse=False)

    assert transport.is_aborted
    assert response.ready.cancelled()


@pytest.mark.parametrize(("wants_stream", "is_kept"), [(True, False), (False, True)])
async def test_a_kind_that_closes_after_a_stream_is_not_believed_to_keep_it(make_attempt, begin, wants_stream, is_kept):
    attempt = make_attempt(make_backend("gpu-1", kind="llamacpp"))
    begin(attempt, wants_stream=wants_stream)

    attempt.let_go(may_reuse=True)

    assert (attempt.upstream.pool.take_idle() is not None) is is_kept


async def test_nor_when_it_streams_unasked(make_attempt, begin):
    attempt = make_attempt(make_backend("gpu-1", kind="llamacpp"))
    begin(attempt, STREAM)

    attempt.let_go(may_reuse=True)

    assert attempt.upstream.pool.take_idle() is None


async def test_what_it_holds_is_settled_once(make_attempt, hold):
    attempt = make_attempt()
    attempt.ending = Ending.CLIENT_LEFT

    first, second = attempt.settle(101.0), attempt.settle(200.0)

    assert first is second
    assert hold.outcomes == [first]


async def test_the_outcome_says_how_it_went(make_attempt, begin):
    attempt = make_attempt()
    response = begin(attempt)
    response.first_byte_at, response.content_at = 100.5, 101.0
    attempt.ending, attempt.fault, attempt.usage = Ending.FINISHED, None, TokenUsage(3, 4)

    outcome = attempt.settle(102.0)

    assert (outcome.backend, outcome.backend_id, outcome.model) == ("gpu-1", "gpu-1", "llama3")
    assert (outcome.ending, outcome.status, outcome.usage) == (Ending.FINISHED, 200, TokenUsage(3, 4))
    assert (outcome.duration_s, outcome.first_byte_s, outcome.is_stream) == (2.0, 1.0, False)


@pytest.mark.parametrize(("content_at", "told_s"), [(None, None), (101.5, 1.5)])
async def test_of_a_stream_its_first_content_is_told_and_nothing_before_it(make_attempt, begin, content_at, told_s):
    attempt = make_attempt()
    begin(attempt, STREAM, wants_stream=True).content_at = content_at

    outcome = attempt.settle(110.0)

    assert (outcome.is_stream, outcome.first_byte_s) == (True, told_s)


async def test_of_an_answer_in_one_piece_its_first_byte_is_told(make_attempt, begin):
    attempt = make_attempt()
    begin(attempt).first_byte_at = 102.5

    outcome = attempt.settle(110.0)

    assert (outcome.is_stream, outcome.first_byte_s) == (False, 2.5)


async def test_the_outcome_of_what_was_not_answered_says_little(make_attempt):
    attempt = make_attempt()
    attempt.ending, attempt.fault = Ending.BACKEND_FAILED, "refused"

    outcome = attempt.settle(100.5)

    assert (outcome.status, outcome.first_byte_s, outcome.fault) == (None, None, "refused")


async def test_who_says_nothing_has_met_a_defect_of_ours(make_attempt):
    assert make_attempt().settle(101.0).ending is Ending.NEXUS_FAILED


@pytest.mark.parametrize("cost_usd", [None, 0.0, 0.25])
async def test_what_it_has_cost_is_known_once_it_is_settled(make_attempt, hold, cost_usd):
    hold.cost = cost_usd
    attempt = make_attempt()
    before = attempt.cost_usd

    attempt.settle(101.0)

    assert (before, attempt.cost_usd) == (None, cost_usd)


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (429, [(b"retry-after", b"7")], 7),
        (503, [(b"Retry-After", b"9999")], 300),
        (503, [], None),
        (503, [(b"Retry-After", b"soon")], None),
        (500, [(b"Retry-After", b"7")], None),
    ],
)
async def test_a_backend_that_asks_to_be_left_alone_is_obeyed(answered, status, headers, expected):
    assert answered(status, headers).retry_after_s == expected


async def test_a_backend_that_was_not_asked_asks_for_nothing(make_reserved, make_upstream):
    assert Attempt(make_reserved(), make_upstream(), started_at=0.0).retry_after_s is None
