"""What is shown of an answer, what is said with it, and who is to blame for none."""

import asyncio
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
import pytest

from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.domain.model import ModelFacts
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.errors import STATUS_OF_CODE, RequestError, UpstreamError, UpstreamFault
from nexus.proxy.exchange import answering
from nexus.proxy.exchange.attempt import Attempt
from nexus.proxy.exchange.record import begin_record
from nexus.proxy.exchange.response import Response
from nexus.proxy.headers.from_client import read_head
from nexus.proxy.upstream.response_head import ResponseHead
from nexus.routing.decision import Reject
from nexus.routing.intent import Verdict
from nexus.testing.builders import CHAT, make_backend
from nexus.wire.protocols import ENDPOINTS, PROTOCOLS

OPENAI = PROTOCOLS["openai"]
JSON = (b"Content-Type", b"application/json")
EVENTS = (b"Content-Type", b"text/event-stream")
GPU = make_backend("gpu-1")


@pytest.fixture
async def answered(connection, ask, make_reserved, make_upstream):
    """An attempt whose backend has said all that it had to say."""

    def make(
        status=200,
        headers=(JSON,),
        body=b"{}",
        *,
        is_framed=True,
        wants_stream=False,
        model="llama3",
        key=None,
        backend=GPU,
    ):
        attempt = Attempt(
            make_reserved(backend, model=model), make_upstream(backend, UpstreamSettings(key=key)), started_at=0.0
        )
        response = Response(loop := asyncio.get_running_loop(), loop.create_future(), connection, ask(wants_stream))
        attempt.begin(connection, response)
        response.on_head(ResponseHead(status, list(headers)))
        response.on_body(body)
        response.on_end(is_framed=is_framed)
        return attempt

    return make


@pytest.fixture
def record(make_reserved):
    record = begin_record("req-1", CHAT)
    record.reserved = make_reserved()
    return record


def verdict(number, reason="too far"):
    return Verdict(backend=f"gpu-{number}", stage="privacy", reason=reason, action="move it")


# errors of routing


def test_a_rejection_says_why_and_what_to_do():
    reject = Reject(
        "rejected_by_policy", "nobody may", (verdict(1), verdict(2, "caf\xe9\r\n")), context={"a": 1}, retry_after_s=7
    )

    error = answering.rejection(reject)
    details = msgspec.json.decode(error.headers["X-Nexus-Rejection-Details"])

    assert (error.code, error.context, error.retry_after_s, error.param) == ("rejected_by_policy", {"a": 1}, 7, None)
    assert error.headers["X-Nexus-Rejection-Reasons"] == "2 agents rejected by privacy"
    assert details[0] == {
        "agent_id": "gpu-1",
        "reconciler": "privacy",
        "reason": "too far",
        "suggested_action": "move it",
    }
    assert all(" " <= c <= "~" for value in error.headers.values() for c in value)


def test_a_rejection_does_not_list_a_whole_fleet():
    error = answering.rejection(Reject("rejected_by_policy", "nobody may", tuple(verdict(n) for n in range(500))))

    assert len(msgspec.json.decode(error.headers["X-Nexus-Rejection-Details"])) == 10
    assert error.headers["X-Nexus-Rejection-Reasons"].startswith("500 agents")


def test_the_headers_of_a_rejection_stay_small_and_whole():
    reasons = tuple(verdict(n, reason="\U0001f600" * 5000) for n in range(50))

    headers = answering.reason_headers((*reasons, Verdict("gpu-1", "x" * 5000, "no")))
    details = msgspec.json.decode(headers["X-Nexus-Rejection-Details"])

    assert len(headers["X-Nexus-Rejection-Details"]) <= answering.MAX_DETAIL_BYTES
    assert len(headers["X-Nexus-Rejection-Reasons"]) < 300
    assert all(" " <= c <= "~" for value in headers.values() for c in value)
    assert details[0]["reason"].startswith("\U0001f600")


def test_the_details_of_a_rejection_keep_what_is_not_ascii():
    headers = answering.reason_headers((verdict(1, "caf\xe9\r\nX-Evil: 1"),))

    assert "\r" not in headers["X-Nexus-Rejection-Details"]
    assert msgspec.json.decode(headers["X-Nexus-Rejection-Details"])[0]["reason"] == "caf\xe9\r\nX-Evil: 1"


def test_reasons_are_given_only_to_an_error_that_has_none():
    bare, full = (
        RequestError("queue_full", "for the test"),
        RequestError("queue_full", "for the test", context={"a": 1}),
    )

    for error in (bare, full):
        answering.give_reasons(error, (verdict(1),), [make_backend("gpu-1"), make_backend("gpu-2")])

    assert bare.context["available_backends"] == ["gpu-1", "gpu-2"]
    assert bare.context["suggested_actions"] == ["move it"]
    assert bare.headers["X-Nexus-Rejection-Reasons"] == "1 agents rejected by privacy"
    assert (full.context, full.headers) == ({"a": 1}, None)


@pytest.mark.parametrize(
    ("status", "fault", "told"),
    [
        (503, "status", "It was asked and failed with status 503: status"),
        (None, "refused", "It was asked and failed: refused"),
    ],
)
def test_a_failed_attempt_is_a_reason_too(status, fault, told):
    failed = AttemptOutcome(
        backend="gpu-1", backend_id="1", model="m", ending=Ending.BACKEND_FAILED, status=status, fault=fault
    )

    reason = answering.as_verdict(failed)

    assert (reason.backend, reason.stage, reason.reason) == ("gpu-1", "attempt", told)


@pytest.mark.parametrize(("code", "param"), [("model_not_found", "model"), ("no_healthy_backend", None)])
def test_a_rejection_without_reasons_names_the_field_at_fault(code, param):
    error = answering.rejection(Reject(code, "nobody has it"))

    assert (error.param, error.headers) == (param, {})


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("internal_error", Ending.NEXUS_FAILED),
        ("deadline_exceeded", Ending.TIMED_OUT),
        ("queue_timeout", Ending.TIMED_OUT),
        ("bad_gateway", Ending.BACKEND_FAILED),
        ("backend_unavailable", Ending.BACKEND_FAILED),
        ("upstream_rate_limited", Ending.BACKEND_FAILED),
        ("ttft_timeout", Ending.BACKEND_FAILED),
        ("invalid_json", Ending.BAD_REQUEST),
        ("too_large", Ending.BAD_REQUEST),
        ("model_not_found", Ending.REJECTED),
        ("no_healthy_backend", Ending.REJECTED),
        ("queue_full", Ending.REJECTED),
        ("draining", Ending.SHUT_DOWN),
    ],
)
def test_every_error_has_somebody_to_blame(code, ending):
    assert answering.ending_of(RequestError(code, "for the test")) is ending


def test_no_error_is_forgotten():
    assert {answering.ending_of(RequestError(code, "for the test")) for code in STATUS_OF_CODE} == {
        Ending.NEXUS_FAILED,
        Ending.TIMED_OUT,
        Ending.BACKEND_FAILED,
        Ending.BAD_REQUEST,
        Ending.REJECTED,
        Ending.SHUT_DOWN,
    }


# what may be shown


@pytest.mark.parametrize(
    ("body", "is_framed", "is_whole"),
    [(b'{"a": 1}', True, True), (b'{"a": 1}', False, True), (b'{"a": ', False, False), (b'{"a": ', True, True)],
)
async def test_a_document_without_framing_must_look_whole(answered, body, is_framed, is_whole):
    response = answered(body=body, is_framed=is_framed).response

    if is_whole:
        answering.refuse_unfinished(OPENAI, CHAT, response)
    else:
        with pytest.raises(UpstreamError) as failed:
            answering.refuse_unfinished(OPENAI, CHAT, response)
        assert failed.value.fault is UpstreamFault.TRUNCATED


async def test_an_error_need_not_look_whole(answered):
    answering.refuse_unfinished(OPENAI, CHAT, answered(400, body=b"{", is_framed=False).response)


@pytest.mark.parametrize(
    ("status", "body", "names_model"),
    [
        (404, b'{"error":"model \'x\' not found"}', True),
        (404, b'{"error":{"message":"The model `x` does not exist.","code":"model_not_found"}}', True),
        (404, b'{"detail":"Not Found"}', False),
        (404, b"404 page not found", False),
        (404, b"", False),
        (400, b'{"error":{"code":400,"message":"model \'x\' not found","type":"invalid_request_error"}}', True),
        (400, b'{"error":{"message":"the tool \'model\' was not found among the tools"}}', False),
        (422, b'{"error":"model \'x\' not found"}', False),
    ],
)
def test_a_missing_model_is_told_from_a_missing_path(status, body, names_model):
    assert answering.names_missing_model(status, body) is names_model


@pytest.mark.parametrize(
    ("status", "body", "is_presentable"),
    [
        (503, b'{"error": "busy"}', True),
        (503, b"busy", False),
        (503, b"[1]", False),
        (503, b"", False),
        (503, b'{"a": "' + b"x" * 65536 + b'"}', True),
        (503, b'{"a": "' + b"x" * 2**20 + b'"}', False),
        (200, b'{"choices": ["busy"]}', False),
    ],
)
async def test_an_error_of_the_backends_own_is_shown_when_it_can_be_read(answered, status, body, is_presentable):
    assert answering.is_presentable(answered(status, body=body)) is is_presentable


async def test_nothing_can_be_shown_of_who_was_not_asked(make_reserved, make_upstream):
    assert not answering.is_presentable(Attempt(make_reserved(), make_upstream(), started_at=0.0))


async def test_a_stream_that_began_with_an_error_is_shown_as_that_error(answered):
    attempt = answered(200, [EVENTS], b"error 429\n", wants_stream=True)
    attempt.response.ready.exception()

    assert answering.is_presentable(attempt)


# what is said with it


async def test_the_head_of_an_answer_says_who_answered_and_why(answered, record):
    attempt = answered(200, [JSON, (b"X-Custom", b"1"), (b"date", b"today")])

    assert answering.head_lines(record, attempt, 1) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Custom: 1\r\ndate: today\r\n"
        b"X-Nexus-Backend: gpu-1\r\nX-Nexus-Backend-Id: gpu-1\r\nX-Nexus-Backend-Type: local\r\n"
        b"X-Nexus-Privacy-Zone: restricted\r\nX-Nexus-Route-Reason: capability-match\r\nX-Request-Id: req-1\r\n"
    )


async def test_a_client_that_sent_an_id_is_answered_with_it(answered, record):
    record.client_request_id = "mine"

    head = answering.head_lines(record, answered(200, [JSON]), 1)

    assert b"\r\nX-Request-Id: mine\r\nX-Nexus-Request-Id: req-1\r\n" in head


async def test_an_answer_without_a_date_is_given_one(answered, record):
    head = answering.head_lines(record, answered(200, [JSON]), 1)

    [line] = [line for line in head.split(b"\r\n") if line.startswith(b"Date: ")]
    assert abs(parsedate_to_datetime(line[6:].decode()).timestamp() - datetime.now(UTC).timestamp()) < 5


async def test_the_zone_is_that_of_the_model_that_answered(answered, record):
    backend = make_backend("gpu-1", models=[ModelFacts(name="llama3:cloud", zone="open"), "llama3"])

    told = [answering.head_lines(record, answered(backend=backend, model=m), 1) for m in backend.models]

    assert [b"X-Nexus-Privacy-Zone: open" in head for head in told] == [True, False]


async def test_a_stream_is_not_to_be_buffered(answered, record):
    attempt = answered(200, [EVENTS, (b"X-Accel-Buffering", b"yes")], b"hello\nend\n", wants_stream=True)

    head = answering.head_lines(record, attempt, 1)

    assert head.count(b"X-Accel-Buffering") == 1
    assert b"X-Accel-Buffering: no\r\n" in head


@pytest.mark.parametrize(
    ("status", "attempts", "advice"),
    [(200, 2, [b"true"]), (503, 1, [b"true"]), (503, 2, [b"false"])],
)
async def test_who_was_refused_everywhere_is_told_not_to_try_again(answered, record, status, attempts, advice):
    attempt = answered(status, [JSON, (b"X-Should-Retry", b"true")])

    head = answering.head_lines(record, attempt, attempts)

    lines = [line.partition(b": ") for line in head.split(b"\r\n")]
    assert [value for name, _, value in lines if name.lower() == b"x-should-retry"] == advice
    assert (b"X-Nexus-Attempts: 2\r\n" in head) is (attempts == 2)


async def test_who_asks_for_an_explanation_is_told_where_it_is(answered, record):
    record.decision_line = b"X-Nexus-Decision-Id: req-1\r\n"

    assert b"\r\nX-Nexus-Decision-Id: req-1\r\n" in answering.head_lines(record, answered(), 1)


async def test_a_fallback_is_named(answered, make_reserved):
    record = begin_record("req-1", CHAT)
    record.reserved = make_reserved(fallback_model="caf\xe9\r\nX-Evil: 1")

    assert b"X-Nexus-Fallback-Model: caf???X-Evil: 1\r\n" in answering.head_lines(record, answered(), 1)


async def test_our_own_key_is_not_repeated(answered, record):
    attempt = answered(401, [JSON, (b"X-Debug", b"Bearer secret-1")], b'{"error": "secret-1"}', key="secret-1")

    assert b"secret-1" not in answering.head_lines(record, attempt, 1)
    assert answering.redacted(attempt.response.body, attempt.upstream.secrets) == b'{"error": "***"}'
    assert answering.redacted(attempt.response.body, ()) == attempt.response.body


# names


def test_a_request_is_renamed_and_nothing_else(make_message):
    body = b'{ "model" : "gpt-4o", "x": 1e400, "model2": "gpt-4o" }'

    renamed = answering.renamed(CHAT, read_head(make_message()), body, "llama3")

    assert renamed == b'{ "model" : "llama3", "x": 1e400, "model2": "gpt-4o" }'


def test_a_form_is_renamed_too(make_message):
    endpoint = ENDPOINTS["/v1/audio/transcriptions"]
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b--\r\n'
    head = read_head(make_message(("Content-Type", "multipart/form-data; boundary=b")))

    assert answering.renamed(endpoint, head, body, "whisper") == body.replace(b"whisper-1", b"whisper")


@pytest.mark.parametrize(
    ("requested", "expected"), [("gpt-4o", b'{"model":"gpt-4o"}'), ("llama3", b'{"model":"llama3"}')]
)
async def test_the_answer_carries_the_name_that_was_asked_for(answered, requested, expected):
    attempt = answered(body=b'{"model":"llama3"}')

    assert answering.restored(attempt.response.body, attempt, requested) == expected


async def test_a_fallback_s_answer_names_the_model_that_made_it(answered, make_reserved):
    attempt = answered(body=b'{"model":"llama3"}')
    stream = answered(200, [EVENTS], b"hello\nend\n", wants_stream=True)
    for each in (attempt, stream):
        each.reserved = msgspec.structs.replace(each.reserved, fallback_model="llama3")

    assert answering.restored(attempt.response.body, attempt, "retired") == attempt.response.body
    assert answering.restorer(stream, "retired") is None


async def test_a_stream_is_left_alone_when_the_name_was(answered):
    attempt = answered(200, [EVENTS], b"hello\nend\n", wants_stream=True)

    assert answering.restorer(attempt, "llama3") is None
    assert answering.restorer(attempt, "gpt-4o") is not None


async def test_what_is_no_stream_is_not_searched_for_names(answered):
    assert answering.restorer(answered(200, [(b"Content-Type", b"audio/mpeg")]), "gpt-4o") is None


# patience


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
async def test_a_backend_that_asks_to_be_left_alone_is_heard(answered, status, headers, expected):
    assert answering.retry_after_of(answered(status, headers)) == expected


async def test_a_backend_that_was_not_asked_asks_for_nothing(make_reserved, make_upstream):
    assert answering.retry_after_of(Attempt(make_reserved(), make_upstream(), started_at=0.0)) is None


@pytest.mark.parametrize(
    ("code", "stage", "phase", "by"),
    [
        ("rejected_by_policy", "budget", "route", "budget"),
        ("rejected_by_policy", "budget", "queue", "budget"),
        ("queue_full", None, "queue", "queue"),
        ("queue_timeout", None, "queue", "queue"),
        ("overloaded", None, "route", "queue"),
        ("overloaded", None, "receive", None),
        ("model_not_found", None, "route", None),
        ("bad_gateway", "schedule", "send", None),
    ],
)
def test_a_refusal_names_the_stage_that_is_the_reason(code, stage, phase, by):
    assert answering.rejecting_stage(RequestError(code, "no", stage=stage), phase) == by


def test_of_several_stages_the_one_with_the_code_of_the_rejection_counts():
    reasons = (
        Verdict("gpu-1", "schedule", "it is unhealthy", code="no_healthy_backend"),
        Verdict("cloud", "budget", "the monthly limit is spent"),
        Verdict("gpu-2", "attempt", "it failed"),
    )

    error = answering.rejection(Reject("rejected_by_policy", "no", reasons))

    assert (error.stage, error.reason) == ("budget", "the monthly limit is spent")
