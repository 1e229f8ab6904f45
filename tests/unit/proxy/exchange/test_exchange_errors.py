"""What the client and the record are told when there is no answer."""

import pytest

from nexus.domain.outcome import Ending
from nexus.error_codes import CODES, REPLY_CODES, UpstreamFault
from nexus.errors import RequestError, UpstreamError
from nexus.proxy.exchange import exchange as exchanges
from nexus.proxy.exchange import response as responses
from nexus.routing.stage.api import Reconciler
from tests.support.dialects import DIALECTS
from tests.support.fake_backends import HELLO, STREAM_REQUEST, broken, stream, whole

ROLE = b'data: {"id": "c-1", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}\n\n'
REFUSED = UpstreamError(UpstreamFault.REFUSED, "for the test")


class Privacy(Reconciler):
    """A stage that excludes every backend."""

    name = "privacy"
    priority = 200

    def reconcile(self, intent):
        for backend in intent:
            intent.exclude(backend, stage="privacy", reason="too far away")


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_an_error_is_told_in_the_protocol_of_the_client(rig, dialect):
    reply = await rig.ask(target=dialect.path, body=dialect.body(stream=False))

    assert reply.status == 404
    assert reply.code == "model_not_found"
    assert rig.may_follow


@pytest.mark.parametrize("code", sorted(REPLY_CODES))
async def test_an_error_ends_the_record_as_its_code_says(rig, monkeypatch, code):
    def refuse(*_):
        raise RequestError(code, "for the test")

    monkeypatch.setattr(exchanges, "begin_failover", refuse)

    reply = await rig.ask()

    assert (reply.status, reply.code) == (CODES[code].status, code)
    assert (rig.outcome.status, rig.outcome.code) == (CODES[code].status, code)
    assert (rig.outcome.ending, rig.outcome.attempts) == (CODES[code].ending, ())
    assert rig.outcome.error_message == "for the test"


async def test_a_body_that_is_no_json_is_refused_before_any_backend_is_asked(rig):
    pool = rig.backend("gpu-1", whole())

    reply = await rig.ask(body=b"{")

    assert (reply.status, reply.code) == (400, "invalid_json")
    assert (rig.outcome.ending, rig.outcome.phase, rig.outcome.termination) == (Ending.BAD_REQUEST, "understand", "CR")
    assert (pool.lent, rig.outcome.attempts) == ([], ())


async def test_a_body_that_is_too_large_closes_the_connection(make_rig):
    rig = make_rig(server={"max_body_bytes": 10})

    reply = await rig.ask()

    assert (reply.status, reply.code, reply.headers["connection"]) == (413, "too_large", "close")
    assert not rig.may_follow


async def test_too_many_requests_at_once_are_refused_before_they_are_read(make_rig):
    rig = make_rig(server={"max_concurrent_requests": 1})
    rig.plane.in_flight = 1

    reply = await rig.ask(body=None)

    assert (reply.status, reply.code) == (503, "overloaded")
    assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
    assert (rig.outcome.ending, rig.outcome.phase, rig.outcome.rejected_by) == (Ending.REJECTED, "receive", None)
    assert rig.plane.in_flight == 1


async def test_as_many_requests_as_may_be_are_served(make_rig):
    rig = make_rig(server={"max_concurrent_requests": 1})
    rig.backend("gpu-1", whole())

    assert (await rig.ask()).status == 200


async def test_a_refusal_says_which_stage_refused_and_why(make_rig):
    rig = make_rig(Privacy())
    rig.backend("gpu-1", whole())

    reply = await rig.ask()

    assert (reply.status, reply.code) == (503, "rejected_by_policy")
    assert reply.headers["x-nexus-rejection-reasons"] == "1 agents rejected by privacy"
    assert rig.fleet.looks == 0
    assert (rig.outcome.ending, rig.outcome.rejected_by, rig.outcome.rejected_because) == (
        Ending.REJECTED,
        "privacy",
        "too far away",
    )


async def test_an_error_names_no_backend(rig):
    reply = await rig.ask()

    assert reply.headers["x-nexus-backend"] == "none"


async def test_an_error_after_which_no_request_may_follow_says_so(rig):
    rig.client.may_stay = False

    reply = await rig.ask()

    assert reply.headers["connection"] == "close"
    assert not rig.may_follow


async def test_a_client_is_not_told_to_try_again_what_was_tried_everywhere(rig):
    for name in ("gpu-1", "gpu-2"):
        rig.backend(name, broken(UpstreamFault.RESET))

    reply = await rig.ask()

    assert (reply.status, reply.code) == (502, "bad_gateway")
    assert (reply.headers["x-nexus-attempts"], reply.headers["x-should-retry"]) == ("2", "false")
    assert [attempt.fault for attempt in rig.outcome.attempts] == ["reset", "reset"]
    assert rig.held == []


async def test_after_one_attempt_the_client_may_try_again(rig):
    rig.backend("gpu-1", REFUSED)

    reply = await rig.ask()

    assert (reply.status, reply.code) == (503, "no_healthy_backend")
    assert not {"x-nexus-attempts", "x-should-retry"} & reply.headers.keys()


async def test_the_last_error_of_several_backends_does_not_repeat_their_advice(rig):
    for name in ("gpu-1", "gpu-2"):
        rig.backend(name, whole(b'{"error": "busy"}', 503, (b"x-should-retry", b"true")))

    reply = await rig.ask()

    assert (reply.status, reply.body) == (503, b'{"error": "busy"}')
    assert (reply.headers["x-nexus-attempts"], reply.headers["x-should-retry"]) == ("2", "false")


async def test_a_stream_whose_event_is_longer_than_the_limit_is_refused(make_rig):
    rig = make_rig(limits={"max_event_bytes": 50})
    rig.backend("gpu-1", stream(HELLO))

    reply = await rig.ask(body=STREAM_REQUEST)

    assert (reply.status, reply.code) == (502, "event_too_large")
    assert rig.held == []


@pytest.mark.parametrize(
    ("keys", "events", "code", "ending"),
    [
        ({"timeouts": {"stream_idle_seconds": 0.005}}, HELLO, "stream_stalled", Ending.BACKEND_FAILED),
        ({"timeouts": {"first_byte_seconds": 0.03}}, ROLE, "stream_stalled", Ending.BACKEND_FAILED),
        ({"server": {"stream_timeout_seconds": 0.03}}, HELLO, "deadline_exceeded", Ending.TIMED_OUT),
    ],
    ids=["idle", "no content", "deadline"],
)
async def test_a_stream_that_takes_too_long_is_cut(make_rig, monkeypatch, keys, events, code, ending):
    monkeypatch.setattr(responses, "COMMIT_HOLD_S", 0.0)
    rig = make_rig(**keys)
    rig.backend("gpu-1", stream(events))

    await rig.ask(body=STREAM_REQUEST)

    assert code.encode() in rig.client.transport.written
    assert (rig.outcome.code, rig.outcome.ending) == (code, ending)
    assert rig.held == []


# defects


@pytest.fixture
def defect(monkeypatch, capture_events):
    """Give a function that lets a function of the exchange's module fail; what is logged of it is captured."""

    def install(name):
        def fail(*_, **__):
            raise ZeroDivisionError

        monkeypatch.setattr(exchanges, name, fail)

    return install


@pytest.mark.parametrize("where", ["receive", "begin_failover", "reply_head"])
async def test_a_defect_becomes_an_internal_error_and_closes(rig, defect, where):
    rig.backend("gpu-1", whole())
    defect(where)

    reply = await rig.ask()

    assert (reply.status, reply.code, reply.headers["connection"]) == (500, "internal_error", "close")
    assert "defect" in rig.outcome.error_message
    assert (rig.outcome.ending, rig.outcome.code) == (Ending.NEXUS_FAILED, "internal_error")
    assert not rig.may_follow
    assert rig.held == []


async def test_a_defect_is_logged_with_its_cause(rig, defect, capture_events):
    defect("receive")

    await rig.ask(body=None)

    (event,) = [entry for entry in capture_events if entry["event"] == "exchange_crashed"]
    assert (event["request_id"], type(event["exc_info"])) == ("r-1", ZeroDivisionError)


async def test_a_defect_after_the_head_resets_the_connection(rig, defect):
    pool = rig.backend("gpu-1", stream(HELLO))
    defect("StreamRelay")

    await rig.ask(body=STREAM_REQUEST)

    assert rig.client.transport.is_aborted
    assert (rig.outcome.ending, rig.outcome.status, rig.outcome.code) == (Ending.NEXUS_FAILED, 200, "internal_error")
    assert pool.lent[0].ends == ["abandoned"]
    assert rig.fleet.reports[0].ending is Ending.NEXUS_FAILED
    assert rig.held == []
