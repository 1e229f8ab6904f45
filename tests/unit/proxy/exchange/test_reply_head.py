"""The head of the reply says which backend answered and why, and repeats no secret."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from nexus.domain.model import ModelFacts
from nexus.proxy.exchange.record import begin_record
from nexus.proxy.exchange.reply_head import reply_head
from nexus.testing.builders import CHAT, make_backend

JSON = (b"Content-Type", b"application/json")
EVENTS = (b"Content-Type", b"text/event-stream")


def head_of(record, attempt, attempts):
    attempt.reserved = record.reserved if record.reserved.fallback_model else attempt.reserved
    return reply_head(record, attempt, attempt.response, attempts)


async def test_the_head_of_an_answer_names_the_backend_and_why(answered, record):
    attempt = answered(200, [JSON, (b"X-Custom", b"1"), (b"date", b"today")])

    assert head_of(record, attempt, 1) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Custom: 1\r\ndate: today\r\n"
        b"X-Nexus-Backend: gpu-1\r\nX-Nexus-Backend-Id: gpu-1\r\nX-Nexus-Backend-Type: local\r\n"
        b"X-Nexus-Privacy-Zone: restricted\r\nX-Nexus-Route-Reason: capability-match\r\nX-Request-Id: req-1\r\n"
    )


async def test_a_client_that_sent_an_id_is_answered_with_it(answered, record):
    record.client_request_id = "mine"

    head = head_of(record, answered(200, [JSON]), 1)

    assert b"\r\nX-Request-Id: mine\r\nX-Nexus-Request-Id: req-1\r\n" in head


async def test_an_answer_without_a_date_is_given_one(answered, record):
    head = head_of(record, answered(200, [JSON]), 1)

    [line] = [line for line in head.split(b"\r\n") if line.startswith(b"Date: ")]
    assert abs(parsedate_to_datetime(line[6:].decode()).timestamp() - datetime.now(UTC).timestamp()) < 5


async def test_the_zone_is_that_of_the_model_that_answered(answered, record):
    backend = make_backend("gpu-1", models=[ModelFacts(name="llama3:cloud", zone="open"), "llama3"])

    told = [head_of(record, answered(backend=backend, model=m), 1) for m in backend.models]

    assert [b"X-Nexus-Privacy-Zone: open" in head for head in told] == [True, False]


async def test_a_stream_is_not_to_be_buffered(answered, record):
    attempt = answered(200, [EVENTS, (b"X-Accel-Buffering", b"yes")], b"hello\nend\n", wants_stream=True)

    head = head_of(record, attempt, 1)

    assert head.count(b"X-Accel-Buffering") == 1
    assert b"X-Accel-Buffering: no\r\n" in head


@pytest.mark.parametrize(
    ("status", "attempts", "advice"),
    [(200, 2, [b"true"]), (503, 1, [b"true"]), (503, 2, [b"false"])],
)
async def test_a_client_refused_everywhere_is_told_not_to_try_again(answered, record, status, attempts, advice):
    attempt = answered(status, [JSON, (b"X-Should-Retry", b"true")])

    head = head_of(record, attempt, attempts)

    lines = [line.partition(b": ") for line in head.split(b"\r\n")]
    assert [value for name, _, value in lines if name.lower() == b"x-should-retry"] == advice
    assert (b"X-Nexus-Attempts: 2\r\n" in head) is (attempts == 2)


async def test_the_place_of_the_explanation_is_told_when_it_was_asked_for(answered, record):
    record.decision_line = b"X-Nexus-Decision-Id: req-1\r\n"

    assert b"\r\nX-Nexus-Decision-Id: req-1\r\n" in head_of(record, answered(), 1)


async def test_a_fallback_is_named(answered, make_reserved):
    record = begin_record("req-1", CHAT)
    record.reserved = make_reserved(fallback_model="caf\xe9\r\nX-Evil: 1")

    assert b"X-Nexus-Fallback-Model: caf???X-Evil: 1\r\n" in head_of(record, answered(), 1)


async def test_the_key_of_nexus_is_not_repeated(answered, record):
    attempt = answered(401, [JSON, (b"X-Debug", b"Bearer secret-1")], b'{"error": "secret-1"}', key="secret-1")

    assert b"secret-1" not in head_of(record, attempt, 1)
    assert attempt.upstream.redacted(attempt.response.body) == b'{"error": "***"}'
    assert answered(401, key=None).upstream.redacted(b"secret-1") == b"secret-1"
