"""Which backend is asked next, and what each of them is sent."""

import json
from itertools import pairwise

import pytest

from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.model import ModelFacts
from nexus.domain.outcome import Ending
from nexus.domain.request import Kept, Reference
from nexus.error_codes import UpstreamFault
from nexus.errors import RequestError, UpstreamError
from nexus.testing.builders import MODEL
from tests.support.fake_backends import ANSWER, CHAT_REQUEST, HELLO, SILENT, broken, end, stream, whole
from tests.support.rig import turns

BUSY = whole(b'{"error": "busy"}', 503)
NOT_FOUND = whole(b'{"error": "no such file"}', 404)
TOO_LONG = whole(b'{"error": {"message": "the prompt is too long", "code": "context_length_exceeded"}}', 400)
CUT = (*whole(b'{"choices": [')[:-1], lambda sink: sink.on_end(is_framed=False))
KEY = ("Authorization", "Bearer sk-client")


def refused(fault=UpstreamFault.REFUSED):
    return UpstreamError(fault, "for the test")


def sent_headers(connection):
    """Return the headers of the request that was sent on *connection*, by name in lower case."""
    lines = connection.head.decode().split("\r\n")[1:-2]
    return {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def facts(**known):
    return ModelFacts(name=MODEL, **known)


# the order


async def test_the_best_backend_is_asked_and_no_other(rig):
    rig.backend("gpu-1", whole())
    rig.backend("gpu-2", whole())

    attempt = await rig.failover().find_answer()

    assert (attempt.backend.name, attempt.response.body) == ("gpu-1", ANSWER)
    assert rig.asked == ["gpu-1"]
    assert rig.load("gpu-1").requests_total == 1


async def test_each_backend_is_asked_once_and_the_best_first(rig):
    names = ["gpu-1", "gpu-2", "gpu-3"]
    for name in names:
        rig.backend(name, BUSY)

    failover = rig.failover()
    await failover.find_answer()

    assert rig.asked == names
    assert [attempt.backend.name for attempt in failover.attempts] == names
    assert rig.held == []


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (refused(), "refused"),
        (refused(UpstreamFault.CONNECT_TIMEOUT), "connect_timeout"),
        (refused(UpstreamFault.TLS), "tls"),
        (broken(UpstreamFault.RESET), "reset"),
        (broken(UpstreamFault.TRUNCATED), "truncated"),
        (broken(UpstreamFault.PROTOCOL), "protocol"),
        (CUT, "truncated"),
        (BUSY, "status"),
        (whole(b"{}", 500), "status"),
        (whole(b"{}", 429), "status"),
        (whole(b"{}", 501), "status"),
        (whole(b"{}", 304), "protocol"),
        (whole(b"{}", 401), "credentials"),
        (whole(b'{"error": {"code": 500}}', 200), "in_stream_error"),
    ],
)
async def test_after_a_failure_the_next_backend_answers(make_rig, script, fault):
    rig = make_rig(server={"api_keys": ("sk-nexus",)})
    rig.backend("gpu-1", script)
    rig.backend("gpu-2", whole())

    failover = rig.failover()
    attempt = await failover.find_answer()

    assert attempt.backend.name == "gpu-2"
    (failed,) = rig.fleet.reports
    assert (failed.backend, failed.ending, failed.fault) == ("gpu-1", Ending.BACKEND_FAILED, fault)
    assert failover.attempts[0].outcome is failed


async def test_what_a_failed_attempt_held_is_given_back_before_the_next(rig):
    first = rig.backend("gpu-1", broken(UpstreamFault.RESET))
    rig.backend("gpu-2", SILENT)

    rig.search(rig.failover())
    await turns()

    assert rig.asked == ["gpu-1", "gpu-2"]
    assert (rig.load("gpu-1").in_flight, first.lent[0].ends) == (0, ["abandoned"])


@pytest.mark.parametrize(("status", "end"), [(503, "kept"), (401, "kept")])
async def test_the_connection_of_a_refusal_is_reused(rig, status, end):
    pool = rig.backend("gpu-1", whole(b"{}", status))
    rig.backend("gpu-2", whole())

    await rig.failover().find_answer()

    assert pool.lent[0].ends == [end]


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_an_error_of_the_clients_own_is_its_answer(rig, status):
    rig.backend("gpu-1", whole(b'{"error": "bad"}', status))
    rig.backend("gpu-2", whole())

    attempt = await rig.failover().find_answer()

    assert (attempt.backend.name, attempt.response.status) == ("gpu-1", status)


async def test_a_stream_that_has_begun_is_an_answer(rig):
    rig.backend("gpu-1", stream(HELLO))

    attempt = await rig.failover(is_stream=True).find_answer()

    assert attempt.response.body == HELLO


async def test_a_backend_that_may_be_at_work_is_not_followed_by_another(rig):
    rig.backend("gpu-1", broken(UpstreamFault.RESET), retry_unsafe=False)
    rig.backend("gpu-2", whole())

    with pytest.raises(RequestError) as failed:
        await rig.failover().find_answer()

    assert failed.value.code == "bad_gateway"
    assert rig.asked == ["gpu-1"]


async def test_no_more_backends_are_asked_than_retries_are_configured(make_rig):
    rig = make_rig(routing={"max_retries": 1})
    for name in ("gpu-1", "gpu-2", "gpu-3"):
        rig.backend(name, BUSY)

    await rig.failover().find_answer()

    assert rig.asked == ["gpu-1", "gpu-2"]


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_backend_that_does_not_begin_in_time_has_failed(make_rig, is_stream):
    rig = make_rig(timeouts={"first_byte_seconds": 0.005, "whole_answer_seconds": 0.005})
    rig.backend("gpu-1", SILENT)
    rig.backend("gpu-2", whole())

    attempt = await rig.failover(is_stream=is_stream).find_answer()

    assert attempt.backend.name == "gpu-2"
    assert rig.fleet.reports[0].fault == "first_byte_timeout"


# reused connections


async def test_a_stale_connection_is_replaced_by_a_fresh_one_to_the_same_backend(rig):
    pool = rig.backend("gpu-1", whole(), idle=[broken(UpstreamFault.STALE)])
    rig.backend("gpu-2", whole())

    failover = rig.failover()
    attempt = await failover.find_answer()
    stale, fresh = pool.lent

    assert (len(failover.attempts), attempt.backend.name, attempt.connection) == (1, "gpu-1", fresh)
    assert stale.ends == ["abandoned"]
    assert stale.head == fresh.head
    assert rig.fleet.reports == []


async def test_the_fresh_connection_is_not_taken_from_those_that_are_idle(rig):
    pool = rig.backend("gpu-1", whole(), idle=[broken(UpstreamFault.STALE)] * 2)

    await rig.failover().find_answer()

    assert len(pool.idle) == 1


async def test_a_second_stale_connection_is_a_failure(rig):
    rig.backend("gpu-1", broken(UpstreamFault.RESET), idle=[broken(UpstreamFault.STALE)])
    rig.backend("gpu-2", idle=[broken(UpstreamFault.STALE)])
    rig.backend("gpu-3", whole())

    attempt = await rig.failover().find_answer()

    assert attempt.backend.name == "gpu-3"
    assert [report.fault for report in rig.fleet.reports] == ["reset", "stale"]


async def test_an_idle_connection_is_reused(rig):
    pool = rig.backend("gpu-1", idle=[whole()])

    await rig.failover().find_answer()

    assert len(pool.lent) == 1


# what is sent


async def test_a_backend_is_sent_the_body_as_it_came(rig):
    pool = rig.backend("gpu-1", whole())

    await rig.failover(body=CHAT_REQUEST).find_answer()

    assert pool.lent[0].body == CHAT_REQUEST
    assert pool.lent[0].head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: gpu-1:8000\r\n")


async def test_a_fallback_is_asked_by_its_name(make_rig):
    rig = make_rig(routing={"fallbacks": {MODEL: ("qwen3",)}})
    rig.backend("gpu-1", BUSY)
    pool = rig.backend("gpu-2", whole(), models=["qwen3"])

    attempt = await rig.failover().find_answer()

    assert json.loads(pool.lent[0].body)["model"] == "qwen3"
    assert attempt.is_renamed


@pytest.mark.parametrize(
    ("headers", "ids"),
    [((), ["r-1", "r-1-2", "r-1-3"]), ((("X-Request-Id", "c-7"),), ["c-7", "c-7-2", "c-7-3"])],
    ids=["of Nexus", "of the client"],
)
async def test_each_further_attempt_has_a_request_id_of_its_own(rig, headers, ids):
    pools = [rig.backend(name, BUSY) for name in ("gpu-1", "gpu-2", "gpu-3")]

    await rig.failover(*headers).find_answer()

    assert [sent_headers(pool.lent[0])["x-request-id"] for pool in pools] == ids


async def test_the_key_of_the_client_goes_to_the_first_backend_only(rig):
    first, second = rig.backend("gpu-1", BUSY), rig.backend("gpu-2", whole())

    await rig.failover(KEY).find_answer()

    assert sent_headers(first.lent[0])["authorization"] == "Bearer sk-client"
    assert "authorization" not in sent_headers(second.lent[0])


async def test_the_key_of_the_client_goes_nowhere_when_nexus_asks_for_keys(make_rig):
    rig = make_rig(server={"api_keys": ("sk-nexus",)})
    pool = rig.backend("gpu-1", whole())

    await rig.failover(KEY).find_answer()

    assert "authorization" not in sent_headers(pool.lent[0])


async def test_the_key_of_a_backend_takes_the_place_of_the_clients(rig):
    pool = rig.backend("gpu-1", whole(), access=UpstreamSettings(key="sk-gpu"))

    await rig.failover(KEY).find_answer()

    assert sent_headers(pool.lent[0])["authorization"] == "Bearer sk-gpu"


# what backends say of themselves


async def test_a_backend_that_does_not_have_its_model_is_reported(rig):
    rig.backend("gpu-1", whole(b'{"error": "model \'llama3\' not found"}', 404))
    rig.backend("gpu-2", whole())

    attempt = await rig.failover().find_answer()

    assert (attempt.backend.name, rig.fleet.missing) == ("gpu-2", [("gpu-1", MODEL)])


async def test_a_backend_that_does_not_support_the_endpoint_is_reported(rig):
    rig.backend("gpu-1", whole(b"{}", 501))
    rig.backend("gpu-2", whole())

    attempt = await rig.failover().find_answer()

    assert (attempt.backend.name, rig.fleet.unsupported) == ("gpu-2", [("gpu-1", "openai.chat", MODEL)])


async def test_a_prompt_that_is_too_long_for_a_backend_goes_to_one_with_a_longer_context(rig):
    for number, length in enumerate((4096, 2048, 8192), 1):
        rig.backend(f"gpu-{number}", TOO_LONG if length < 8192 else whole(), models=[facts(context_length=length)])

    attempt = await rig.failover().find_answer()

    assert (attempt.backend.name, rig.asked) == ("gpu-3", ["gpu-1", "gpu-3"])
    assert rig.fleet.reports[0].fault == "context_exceeded"


async def test_what_only_one_backend_keeps_is_looked_for_beyond_the_retries(make_rig):
    rig = make_rig(routing={"max_retries": 0})
    for name, script in (("gpu-1", NOT_FOUND), ("gpu-2", NOT_FOUND), ("gpu-3", whole(b"{}"))):
        rig.backend(name, script)

    attempt = await rig.failover(target="/v1/files/file-1", method="GET", model="", body=b"").find_answer()

    assert (attempt.backend.name, rig.asked) == ("gpu-3", ["gpu-1", "gpu-2", "gpu-3"])


async def test_where_it_is_known_what_a_backend_keeps_no_other_is_asked(rig):
    rig.backend("gpu-1", whole(b"{}"))
    rig.backend("gpu-2", NOT_FOUND)
    kept = Kept(Reference("file-1"), "gpu-2")

    failover = rig.failover(target="/v1/files/file-1", method="GET", kept=kept, model="", body=b"")
    attempt = await failover.find_answer()

    assert (attempt.response.status, rig.asked) == (404, ["gpu-2"])


# deadlines


@pytest.mark.parametrize(
    ("model", "timeouts", "is_stream", "wait_s"),
    [
        (facts(first_byte_s=7.0), {"first_byte_seconds": 8.0}, True, 7.0),
        (facts(), {"first_byte_seconds": 8.0}, True, 8.0),
        (facts(first_byte_s=7.0), {"whole_answer_seconds": 9.0}, False, 9.0),
        (facts(first_byte_s=7.0), {}, False, 600.0),
    ],
)
async def test_how_long_a_backend_may_take_to_begin(make_rig, model, timeouts, is_stream, wait_s):
    rig = make_rig(timeouts=timeouts)
    rig.backend("gpu-1", whole(), models=[model])

    failover = rig.failover(is_stream=is_stream)
    attempt = await failover.find_answer()

    assert failover.first_byte_s(attempt) == wait_s


async def test_a_model_of_which_nothing_is_known_may_take_as_long_as_is_usual_for_the_kind(rig):
    rig.backend("gpu-1", (*stream(HELLO), end), models=(), any_model="always")

    failover = rig.failover(is_stream=True)
    attempt = await failover.find_answer()

    assert failover.first_byte_s(attempt) == attempt.backend.kind.first_byte_s


@pytest.mark.parametrize(("is_stream", "limit_s"), [(True, 30.0), (False, 20.0)])
async def test_the_deadline_counts_from_the_beginning_of_the_request(make_rig, is_stream, limit_s):
    rig = make_rig(server={"request_timeout_seconds": 20.0, "stream_timeout_seconds": 30.0})

    failover = rig.failover(is_stream=is_stream)

    assert failover.deadline == failover.record.began_at + limit_s


# decisions


async def test_a_client_that_asks_why_is_told_where_to_read_it(rig):
    explained, other, plain = (
        rig.failover(*hints).record for hints in ([("X-Nexus-Explain", "true")], [("X-Nexus-Priority", "high")], [])
    )

    assert explained.decision_line == b"X-Nexus-Decision-Id: r-1\r\n"
    assert (other.decision_line, plain.decision_line) == (b"", b"")


async def test_the_phases_of_each_attempt_are_recorded(rig):
    rig.backend("gpu-1", BUSY)
    rig.backend("gpu-2", whole())

    failover = rig.failover()
    await failover.find_answer()
    phases = failover.record.phases

    assert [phase for phase, _ in phases[1:]] == ["route", "send", "await_first_byte"] * 2
    assert all(before <= after for (_, before), (_, after) in pairwise(phases))
