"""Whenever an exchange is interrupted, all that it holds is given back once, and its observers are told once."""

import asyncio

import pytest
from msgspec.structs import replace

from nexus.domain.outcome import Ending
from nexus.proxy.exchange.pieces import PIECE_BYTES
from nexus.proxy.exchange.resource_owners import ResourceOwners
from tests.support.fake_backends import DONE, HELLO, SILENT, STREAM_REQUEST, end, stream, whole
from tests.support.rig import turns

LONG = b'{"choices": [{"message": {"content": "' + b"x" * 4 * PIECE_BYTES + b'"}}]}'


class HangingOwners(ResourceOwners):
    """Waits for a store that does not answer."""

    async def find(self, references):
        await asyncio.Event().wait()


# Each of these lets an exchange wait at one of its awaits, and returns what the client sends.


def receiving(rig):
    rig.backend("gpu-1", whole())
    return {"body": None}


def locating(rig):
    rig.plane.owners = HangingOwners()
    return {"method": "GET", "target": "/v1/files/file-1", "body": b""}


def probing(rig):
    rig.fleet.probes_hang = True
    return {}


def queueing(rig):
    rig.backend("gpu-1", whole(), max_in_flight=1, in_flight=1)
    return {}


def connecting(rig):
    rig.backend("gpu-1", None)
    return {}


def awaiting(rig):
    rig.backend("gpu-1", SILENT)
    return {}


def delivering(rig):
    rig.backend("gpu-1", whole(LONG))
    rig.client.pauses_always = True
    return {}


def relaying(rig):
    rig.backend("gpu-1", stream(HELLO))
    return {"body": STREAM_REQUEST}


def finishing(rig):
    rig.backend("gpu-1", (*stream(HELLO, DONE), end))
    rig.client.pauses_always = True
    return {"body": STREAM_REQUEST}


def attempts(rig):
    return [(attempt.backend, attempt.ending) for attempt in rig.outcome.attempts]


BEFORE_THE_ANSWER = {
    receiving: ("receive", "CR", []),
    locating: ("understand", "CR", []),
    probing: ("route", "CQ", []),
    queueing: ("queue", "CQ", []),
    connecting: ("send", "CC", ["gpu-1"]),
    awaiting: ("await_first_byte", "CH", ["gpu-1"]),
}
"""Where an exchange waits before it has an answer: the phase, the termination code, and the backends asked."""


async def begin(rig, moment):
    """Begin an exchange that waits where *moment* says."""
    exchange = rig.begin(**moment(rig))
    await turns()
    assert not rig.client.task.done()
    return exchange


@pytest.mark.parametrize("moment", BEFORE_THE_ANSWER)
async def test_a_client_that_leaves_before_the_answer_gives_everything_back(rig, moment):
    phase, termination, asked = BEFORE_THE_ANSWER[moment]
    await begin(rig, moment)

    rig.client.leave()
    await rig.over()

    assert rig.held == []
    assert (rig.outcome.ending, rig.outcome.status, rig.outcome.code) == (Ending.CLIENT_LEFT, 499, None)
    assert (rig.outcome.phase, rig.outcome.termination) == (phase, termination)
    assert attempts(rig) == [(name, Ending.CLIENT_LEFT) for name in asked]
    assert rig.client.task.cancelled()


@pytest.mark.parametrize("moment", [delivering, relaying, finishing])
async def test_a_client_that_leaves_within_the_answer_gives_everything_back(rig, moment):
    await begin(rig, moment)

    rig.client.leave()
    await rig.over()

    assert rig.held == []
    assert (rig.outcome.ending, rig.outcome.status, rig.outcome.termination) == (Ending.CLIENT_LEFT, 200, "CD")
    assert rig.client.task.cancelled()


@pytest.mark.parametrize("moment", [*BEFORE_THE_ANSWER, delivering, relaying, finishing])
async def test_each_attempt_is_reported_once(rig, moment):
    await begin(rig, moment)

    rig.client.leave()
    await rig.over()

    assert rig.outcome.attempts == tuple(rig.fleet.reports)


@pytest.mark.parametrize(
    ("moment", "ending"),
    [(delivering, Ending.FINISHED), (relaying, Ending.CLIENT_LEFT), (finishing, Ending.FINISHED)],
)
async def test_a_backend_has_finished_when_its_part_is_over(rig, moment, ending):
    await begin(rig, moment)

    rig.client.leave()
    await rig.over()

    assert attempts(rig) == [("gpu-1", ending)]


async def test_a_client_that_left_before_its_request_began_is_recorded_as_one_that_left(rig):
    pool = rig.backend("gpu-1", whole())

    rig.exchange().abandon()

    assert (pool.lent, rig.held) == ([], [])
    assert (rig.outcome.ending, rig.outcome.status, rig.outcome.termination) == (Ending.CLIENT_LEFT, 499, "CR")


async def test_a_client_that_takes_nothing_for_too_long_has_stalled(rig):
    await begin(rig, delivering)

    rig.client.has_stalled = True
    rig.client.leave()
    await rig.over()

    assert (rig.outcome.ending, rig.outcome.termination) == (Ending.CLIENT_STALLED, "cD")


async def test_what_a_stream_has_used_is_noted_when_its_client_leaves(rig):
    await begin(rig, relaying)

    rig.client.leave()
    await rig.over()

    assert rig.outcome.usage.is_estimated
    assert rig.outcome.usage.completion_tokens > 0


async def test_the_memory_of_a_response_that_was_held_back_is_given_back(rig):
    await begin(rig, delivering)
    held_bytes = rig.plane.response_memory.used_bytes

    rig.client.leave()
    await rig.over()

    assert (held_bytes > 0, rig.plane.response_memory.used_bytes) == (True, 0)


async def test_every_observer_is_told_once(rig):
    rig.backend("gpu-1", whole())
    others = []
    exchange = rig.exchange()
    exchange.settings = replace(rig.settings, observers=(rig.outcomes.append, others.append))

    await exchange.run()

    assert others == [rig.outcome]


@pytest.mark.parametrize("headers", [(), (("X-Nexus-Explain", "true"),)])
async def test_the_decision_is_kept_with_the_outcome(rig, headers):
    rig.backend("gpu-1", whole())

    await rig.ask(*headers)

    assert [record.outcome for record in rig.plane.decisions] == [rig.outcome]


class Trace:
    """Notes what an exchange says of itself."""

    trace_id = "4bf9"

    def __init__(self):
        self.attempts = []
        self.outcomes = []

    def begin(self, headers):
        return self

    def attempt(self, backend, at):
        self.attempts.append(backend.name)

    def lines(self):
        return b"traceparent: 00-4bf9\r\n"

    def end(self, outcome, phases, settling_since):
        self.outcomes.append(outcome)


async def test_a_trace_is_passed_on_and_ends_with_the_exchange(rig):
    rig.plane.tracer = trace = Trace()
    pool = rig.backend("gpu-1", whole())

    await rig.ask()

    assert b"traceparent: 00-4bf9\r\n" in pool.lent[0].head
    assert (trace.attempts, trace.outcomes) == (["gpu-1"], [rig.outcome])


# shutdown


@pytest.mark.parametrize("moment", BEFORE_THE_ANSWER)
async def test_a_shutdown_before_the_answer_tells_the_client_to_come_back(rig, moment):
    _, _, asked = BEFORE_THE_ANSWER[moment]
    exchange = await begin(rig, moment)

    exchange.shut_down()
    await rig.over()
    reply = await rig.reply()

    assert (reply.status, reply.code) == (503, "draining")
    assert (reply.headers["retry-after"], reply.headers["connection"]) == ("5", "close")
    assert (rig.outcome.ending, rig.outcome.status, rig.outcome.code) == (Ending.SHUT_DOWN, 503, "draining")
    assert attempts(rig) == [(name, Ending.SHUT_DOWN) for name in asked]
    assert (rig.may_follow, rig.held) == (False, [])


async def test_a_shutdown_ends_a_stream_with_an_error_event(rig):
    exchange = await begin(rig, relaying)

    exchange.shut_down()
    await rig.over()
    reply = await rig.reply()

    assert reply.body.startswith(HELLO)
    assert b"server_shutdown" in reply.body
    assert not reply.is_whole
    assert (rig.outcome.ending, rig.outcome.status, rig.outcome.code) == (Ending.SHUT_DOWN, 200, "server_shutdown")
    assert attempts(rig) == [("gpu-1", Ending.SHUT_DOWN)]
    assert (rig.may_follow, rig.held) == (False, [])


async def test_a_client_that_leaves_a_stream_which_a_shutdown_has_cut_changes_nothing(rig):
    exchange = await begin(rig, relaying)

    exchange.shut_down()
    rig.client.leave()
    await rig.over()

    assert (rig.outcome.ending, rig.outcome.code) == (Ending.SHUT_DOWN, "server_shutdown")
    assert rig.held == []


async def test_a_shutdown_lets_the_client_take_an_answer_that_is_complete(rig):
    exchange = await begin(rig, delivering)

    exchange.shut_down()
    rig.client.pauses_always = False
    rig.client.read_on()
    await rig.over()

    assert (await rig.reply()).body == LONG
    assert rig.outcome.ending is Ending.FINISHED


async def test_an_answer_that_the_end_of_the_process_interrupts_was_shut_down(rig):
    exchange = await begin(rig, delivering)

    exchange.shut_down()
    rig.client.task.cancel()
    await rig.over()

    assert (rig.outcome.ending, rig.outcome.status) == (Ending.SHUT_DOWN, 200)
    assert rig.held == []
