"""One request and its answer: the phases, what the client gets, and what is recorded."""

import gc
import json

import pytest
from aiohttp.http import HttpVersion10

from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.outcome import Ending
from nexus.domain.request import TokenUsage
from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.exchange import response as responses
from nexus.proxy.exchange.failover import Failover
from nexus.proxy.exchange.pieces import PIECE_BYTES
from nexus.testing.waiting import eventually
from tests.support.fake_backends import ANSWER, DONE, HELLO, STREAM_REQUEST, end, stream, whole
from tests.support.rig import turns

ROLE = b'data: {"id": "c-1", "model": "llama3", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}\n\n'
USAGE = b'data: {"id": "c-1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}\n\n'
LONG = b'{"choices": [{"message": {"content": "' + b"x" * 4 * PIECE_BYTES + b'"}}]}'


# a whole answer


async def test_a_whole_answer_goes_to_the_client_as_it_is(rig):
    rig.backend("gpu-1", whole())

    reply = await rig.ask()

    assert (reply.status, reply.body, reply.is_whole) == (200, ANSWER, True)
    assert (reply.headers["x-nexus-backend"], reply.headers["x-request-id"]) == ("gpu-1", "r-1")
    assert rig.may_follow
    assert rig.held == []


async def test_the_phases_follow_one_another(rig):
    rig.backend("gpu-1", whole())

    exchange = rig.begin()
    await rig.over()

    assert [phase for phase, _ in exchange.record.phases] == [
        "receive",
        "understand",
        "route",
        "send",
        "await_first_byte",
        "relay",
    ]


async def test_the_outcome_of_a_whole_answer_says_all_of_it(rig):
    rig.backend("gpu-1", whole())

    reply = await rig.ask(body=b'{"model": "llama3", "messages": []}')
    outcome = rig.outcome

    assert (outcome.ending, outcome.status, outcome.code, outcome.termination) == (Ending.FINISHED, 200, None, "--")
    assert (outcome.model, outcome.resolved_model, outcome.is_stream) == ("llama3", "llama3", False)
    assert (outcome.bytes_in, outcome.bytes_out) == (35, len(reply.body))
    assert outcome.attempts == tuple(rig.fleet.reports)
    assert [attempt.ending for attempt in outcome.attempts] == [Ending.FINISHED]


async def test_the_connection_of_a_whole_answer_is_reused(rig):
    pool = rig.backend("gpu-1", whole())

    await rig.ask()

    assert pool.lent[0].ends == ["kept"]


async def test_the_body_is_not_kept_for_another_attempt_once_the_answer_has_begun(rig):
    rig.backend("gpu-1", stream(HELLO))

    exchange = rig.begin(body=STREAM_REQUEST)
    await turns()

    assert exchange.failover.body == b""
    rig.client.leave()
    await rig.over()


async def test_the_body_is_not_kept_when_no_backend_answers(rig):
    rig.backend("gpu-1", whole(b"<html>", 500))

    exchange = rig.begin()
    await rig.over()

    assert rig.outcome.ending is Ending.BACKEND_FAILED
    assert exchange.failover.body == b""


def failovers():
    return [found for found in gc.get_objects() if isinstance(found, Failover)]


async def test_an_exchange_that_is_over_is_freed_without_the_garbage_collector(rig):
    rig.backend("gpu-1", whole())
    gc.collect()
    gc.disable()
    try:
        of_other_tests = failovers()
        await rig.ask()
        kept = [found for found in failovers() if not any(found is other for other in of_other_tests)]
    finally:
        gc.enable()

    assert kept == []


async def test_a_long_answer_is_delivered_in_pieces_and_its_backend_is_free_before_the_client_has_it(rig):
    pool = rig.backend("gpu-1", whole(LONG))
    rig.client.pauses_always = True

    rig.begin()
    await turns()
    written, ends, in_flight = len(rig.client.transport.written), list(pool.lent[0].ends), rig.load("gpu-1").in_flight
    outcomes = list(rig.outcomes)
    rig.client.pauses_always = False
    rig.client.read_on()
    await rig.over()

    assert written < len(LONG) // 2
    assert (ends, in_flight, outcomes) == (["kept"], 0, [])
    assert (await rig.reply()).body == LONG
    assert (rig.outcome.ending, rig.outcome.bytes_out) == (Ending.FINISHED, len(LONG))
    assert len(rig.fleet.reports) == 1


async def test_a_client_that_leaves_in_a_long_answer_has_what_was_written_and_its_backend_has_not_failed(rig):
    rig.backend("gpu-1", whole(LONG))
    rig.client.pauses_always = True

    rig.begin()
    await turns()
    rig.client.leave()
    await rig.over()

    assert rig.outcome.ending is Ending.CLIENT_LEFT
    assert 0 < rig.outcome.bytes_out < len(LONG)
    assert [report.ending for report in rig.fleet.reports] == [Ending.FINISHED]


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_has_no_body_states_no_length(rig, status):
    rig.backend("gpu-1", whole(b"{}", status))

    await rig.ask(method="GET", target="/v1/files/file-1", body=b"")

    written = rig.client.transport.written
    assert written.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Length" not in written
    assert written.endswith(b"\r\n\r\n")


# a stream


async def test_a_stream_goes_to_the_client_event_by_event(rig):
    pool = rig.backend("gpu-1", stream(ROLE, HELLO))

    rig.begin(body=STREAM_REQUEST)
    await turns()
    begun = rig.client.transport.written
    pool.lent[0].play(*stream(DONE)[1:], end)
    await rig.over()
    reply = await rig.reply()

    assert HELLO in begun
    assert (reply.status, reply.body, reply.is_whole) == (200, ROLE + HELLO + DONE, True)
    assert (rig.may_follow, rig.held, rig.client.resume) == (True, [], None)


async def test_the_outcome_of_a_stream_says_all_of_it(rig):
    rig.backend("gpu-1", (*stream(ROLE, HELLO, USAGE, DONE), end))

    await rig.ask(body=STREAM_REQUEST)
    outcome = rig.outcome

    assert (outcome.ending, outcome.status, outcome.is_stream) == (Ending.FINISHED, 200, True)
    assert outcome.usage == TokenUsage(7, 2)
    assert outcome.attempts[0].is_stream
    assert outcome.bytes_out == len(ROLE + HELLO + USAGE + DONE)
    assert outcome.phase == "relay"


async def test_a_stream_that_announces_its_answer_has_begun_with_its_first_content(rig, monkeypatch):
    monkeypatch.setattr(responses, "COMMIT_HOLD_S", 0.0)
    pool = rig.backend("gpu-1", stream(ROLE))

    exchange = rig.begin(body=STREAM_REQUEST)
    await eventually(lambda: exchange.record.has_answered)
    first_byte_s = exchange.record.first_byte_s
    pool.lent[0].play(*stream(HELLO, DONE)[1:], end)
    await rig.over()

    assert first_byte_s is None
    assert rig.outcome.first_byte_s > 0


async def test_the_backend_of_a_stream_is_free_before_the_client_has_its_end(rig):
    pool = rig.backend("gpu-1", stream(HELLO))

    rig.begin(body=STREAM_REQUEST)
    await turns()
    rig.client.stop_reading()
    pool.lent[0].play(*stream(DONE)[1:], end)
    await turns()
    ends, in_flight, outcomes = list(pool.lent[0].ends), rig.load("gpu-1").in_flight, list(rig.outcomes)
    rig.client.read_on()
    await rig.over()

    assert (ends, in_flight, outcomes) == (["kept"], 0, [])
    assert (await rig.reply()).body == HELLO + DONE
    assert len(rig.fleet.reports) == len(rig.outcomes) == 1


async def test_a_stream_that_a_backend_breaks_ends_with_an_error_event_and_closes(rig):
    pool = rig.backend("gpu-1", stream(HELLO))

    rig.begin(body=STREAM_REQUEST)
    await turns()
    pool.lent[0].play(lambda sink: sink.on_failed(UpstreamFault.RESET, "for the test"))
    await rig.over()
    reply = await rig.reply()

    assert b"stream_truncated" in reply.body
    assert not reply.is_whole
    assert rig.client.transport.is_closed
    assert not rig.may_follow
    assert (rig.outcome.ending, rig.outcome.code, rig.outcome.status) == (
        Ending.BACKEND_FAILED,
        "stream_truncated",
        200,
    )
    assert (rig.fleet.reports[0].ending, rig.fleet.reports[0].fault) == (Ending.BACKEND_FAILED, "stream_truncated")
    assert rig.held == []


async def test_a_stream_in_which_a_backend_reports_an_error_is_passed_on_as_failed(rig):
    error = b'data: {"error": {"message": "out of memory", "code": 500}}\n\n'
    pool = rig.backend("gpu-1", (*stream(HELLO, error), end))

    reply = await rig.ask(body=STREAM_REQUEST)

    assert (reply.body, reply.is_whole) == (HELLO + error, True)
    assert (rig.outcome.ending, rig.outcome.code) == (Ending.BACKEND_FAILED, "upstream_error")
    assert pool.lent[0].ends == ["abandoned"]


async def test_a_stream_for_an_old_client_is_ended_by_the_connection(rig):
    rig.backend("gpu-1", (*stream(HELLO, DONE), end))

    reply = await rig.ask(body=STREAM_REQUEST, version=HttpVersion10)

    assert "transfer-encoding" not in reply.headers
    assert (reply.body, reply.headers["connection"]) == (HELLO + DONE, "close")
    assert not rig.may_follow


# usage


async def test_the_usage_that_a_backend_reports_is_noted(rig):
    rig.backend("gpu-1", whole())

    await rig.ask()

    assert rig.outcome.usage == rig.fleet.reports[0].usage == TokenUsage(7, 2)


async def test_usage_is_estimated_when_a_whole_answer_reports_none(rig):
    rig.backend("gpu-1", whole(b'{"choices": [{"message": {"content": "Hello, world"}}]}'))

    await rig.ask()

    assert rig.outcome.usage.is_estimated
    assert rig.outcome.usage.completion_tokens == 3
    assert rig.fleet.reports[0].usage is None


async def test_usage_is_estimated_when_a_stream_reports_none(rig):
    rig.backend("gpu-1", (*stream(HELLO, DONE), end))

    await rig.ask(body=STREAM_REQUEST)

    assert rig.outcome.usage.is_estimated
    assert rig.outcome.usage.completion_tokens > 0


async def test_an_error_of_a_backend_uses_no_tokens(rig):
    rig.backend("gpu-1", whole(b'{"error": {"message": "no such tool"}}', 400))

    reply = await rig.ask()

    assert (reply.status, json.loads(reply.body)["error"]["message"]) == (400, "no such tool")
    assert rig.outcome.usage is None
    assert rig.outcome.ending is Ending.FINISHED


# the client's connection, and the lines of the reply


@pytest.mark.parametrize("body", [b'{"model": "llama3", "messages": []}', STREAM_REQUEST])
async def test_a_reply_after_which_no_request_may_follow_says_so(rig, body):
    rig.backend("gpu-1", whole() if body is not STREAM_REQUEST else (*stream(HELLO, DONE), end))
    rig.client.may_stay = False

    reply = await rig.ask(body=body)

    assert reply.headers["connection"] == "close"
    assert not rig.may_follow


async def test_a_reply_after_which_another_request_may_follow_does_not_close(rig):
    rig.backend("gpu-1", whole())

    reply = await rig.ask()

    assert "connection" not in reply.headers


async def test_one_attempt_is_not_worth_a_header(rig):
    rig.backend("gpu-1", whole())

    assert "x-nexus-attempts" not in (await rig.ask()).headers


async def test_an_answer_says_how_many_backends_were_asked(rig):
    rig.backend("gpu-1", UpstreamError(UpstreamFault.REFUSED, "for the test"))
    rig.backend("gpu-2", whole())

    reply = await rig.ask()

    assert (reply.headers["x-nexus-attempts"], reply.headers["x-nexus-backend"]) == ("2", "gpu-2")
    assert [attempt.backend for attempt in rig.outcome.attempts] == ["gpu-1", "gpu-2"]


async def test_what_a_browser_could_open_by_a_link_is_sandboxed(rig):
    rig.backend("gpu-1", whole(b"{}"))

    reply = await rig.ask(method="GET", target="/v1/files/file-1", body=b"")

    assert reply.headers["content-security-policy"] == "sandbox"
    assert rig.outcome.method == "GET"


async def test_what_is_posted_is_not_sandboxed(rig):
    rig.backend("gpu-1", whole())

    assert "content-security-policy" not in (await rig.ask()).headers


async def test_a_secret_is_not_repeated_in_an_error(rig):
    rig.backend("gpu-1", whole(b'{"error": "bad sk-1"}', 400), access=UpstreamSettings(key="sk-1"))

    reply = await rig.ask()

    assert reply.body == b'{"error": "bad ***"}'
