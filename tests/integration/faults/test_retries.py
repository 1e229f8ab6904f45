"""How often, and on whom, a request is tried again, and what the client is told of it."""

import msgspec
import pytest

from nexus.proxy.exchange.retry import RetryBudget
from nexus.testing.ports import free_port
from tests.support.dialects import CHAT, DIALECTS, MODEL, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, Send, Stall

BUSY = b'{"error":{"message":"overloaded","type":"server_error"}}'
FAILS = [ReadRequest(), Send(whole_answer(BUSY, status=503))]
OTHER = "qwen3:4b"


@pytest.fixture
def fleet(script):
    """Make so many backends."""

    async def make(count):
        return {f"gpu-{number}": await script() for number in range(count)}

    return make


def play_all(backends, steps):
    for backend in backends.values():
        backend.play(steps)


async def test_no_more_backends_are_tried_than_allowed(start, fleet):
    backends = await fleet(5)
    scene = await start(**backends, settings={"max_retries": 2})
    play_all(backends, FAILS)

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.body) == (503, BUSY)
    assert (reply.headers["x-nexus-attempts"], reply.headers["x-should-retry"]) == ("3", "false")
    assert [len(backend.attempts) for backend in backends.values()] == [1, 1, 1, 0, 0]


async def test_without_retries_the_first_failure_is_the_last(start, fleet, dialect):
    backends = await fleet(2)
    scene = await start(**backends, settings={"max_retries": 0})
    play_all(backends, FAILS)

    reply = await scene.ask(dialect)

    assert reply.status == 503
    assert "x-nexus-attempts" not in reply.headers
    assert "x-should-retry" not in reply.headers


async def test_a_synthetic_error_too_says_that_all_was_tried(start, fleet, dialect):
    backends = await fleet(2)
    scene = await start(**backends)
    play_all(backends, [ReadRequest(), Close()])

    reply = await scene.ask(dialect)

    assert (reply.status, reply.code) == (502, "bad_gateway")
    assert (reply.headers["x-nexus-attempts"], reply.headers["x-should-retry"]) == ("2", "false")


async def test_retries_are_a_share_of_the_traffic(start, fleet):
    backends = await fleet(2)
    # The 500 of a llama.cpp opens no breaker, which would end the retries by itself.
    scene = await start(**backends, options={name: {"type": "llamacpp"} for name in backends})
    play_all(backends, [ReadRequest(), Send(whole_answer(BUSY, status=500))] * 20)

    attempts = []
    for _ in range(20):
        await scene.ask(CHAT)
        attempts.append(len(scene.outcomes[-1].attempts))

    retried = attempts.count(2)
    assert attempts[:3] == [2, 2, 2]
    # What it begins with, one refill, and a share of the traffic; a request spends once, for its second opinion.
    assert 3 <= retried <= 2 * RetryBudget.LEAST + 20 * RetryBudget.SHARE


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_every_refusal_is_saved_by_an_idle_twin(start, script, dialect, status, stream):
    refusing, idle = await script(), await script()
    scene = await start(refusing=refusing, idle=idle)
    refusing.play([ReadRequest(), Send(whole_answer(BUSY, status=status))] * 40)
    idle.play([ReadRequest(), Send(dialect.good_stream if stream else dialect.good_answer)] * 40)

    replies = [await scene.ask(dialect, stream=stream) for _ in range(40)]

    assert {(reply.status, reply.headers["x-nexus-backend"]) for reply in replies} == {(200, "idle")}


@pytest.mark.parametrize("status", [408, 421, 425, 502, 504, 507, 520, 530])
async def test_a_status_that_is_no_answer_is_tried_elsewhere_and_counts(start, script, status):
    broken, steady = await script(), await script()
    scene = await start(broken=broken, steady=steady)
    broken.play([ReadRequest(), Send(whole_answer(BUSY, status=status))] * 3)
    steady.play([ReadRequest(), Send(CHAT.good_answer)] * 3)

    replies = [await scene.ask(CHAT) for _ in range(3)]

    assert [reply.headers["x-nexus-backend"] for reply in replies] == ["steady"] * 3
    assert scene.backend("broken").breaker == "open"


@pytest.mark.parametrize("status", [400, 409, 411, 413, 415, 422, 451])
async def test_what_the_client_did_wrong_goes_to_the_client(start, script, status):
    strict, other = await script(), await script()
    scene = await start(strict=strict, other=other)
    strict.play([ReadRequest(), Send(whole_answer(BUSY, status=status))])

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.body, other.attempts) == (status, BUSY, [])


async def test_a_method_that_a_server_does_not_know_is_told_where_nothing_else_may_help(start, script):
    strict, other = await script(), await script()
    only_chat = {"protocols": ["openai.chat"]}
    scene = await start(strict=strict, other=other, options={"strict": only_chat, "other": only_chat})
    for backend in (strict, other):
        backend.play([ReadRequest(), Send(whole_answer(BUSY, status=405))])

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.body, len(other.attempts)) == (405, BUSY, 1)


PAID = {"paid": {"retry_unsafe": False}}


@pytest.mark.parametrize(
    "steps",
    [
        [ReadRequest(), Send(whole_answer(BUSY, status=500))],
        [ReadRequest(), Send(whole_answer(BUSY, status=503))],
        [ReadRequest(), Close()],
        [ReadRequest(), Stall()],
    ],
    ids=["500", "503", "cut", "silent"],
)
async def test_a_request_that_may_have_been_begun_is_never_paid_for_twice(start, script, steps):
    paid, other = await script(), await script()
    scene = await start(paid=paid, other=other, options=PAID, settings={"first_byte_s": 0.2})
    paid.play(steps)

    reply = await scene.ask(CHAT)

    assert reply.status >= 500
    assert other.attempts == []


@pytest.mark.parametrize(("status", "headers"), [(429, ""), (401, ""), (503, "Retry-After: 1\r\n")])
async def test_a_paid_backend_that_declined_at_once_is_replaced(start, script, status, headers):
    paid, other = await script(), await script()
    scene = await start(paid=paid, other=other, options=PAID)
    paid.play([ReadRequest(), Send(whole_answer(BUSY, status=status, headers=headers))])
    other.play([ReadRequest(), Send(CHAT.good_answer)])

    assert (await scene.ask(CHAT)).status == 200


async def test_one_second_opinion_is_enough_for_a_500(start, fleet):
    backends = await fleet(4)
    scene = await start(**backends, settings={"max_retries": 3})
    play_all(backends, [ReadRequest(), Send(whole_answer(BUSY, status=500))])

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.headers["x-nexus-attempts"]) == (500, "2")


async def test_each_attempt_has_an_upstream_id_of_its_own(start, script):
    first, second = await script(), await script()
    scene = await start(first=first, second=second)
    first.play(FAILS)
    second.play([ReadRequest(), Send(CHAT.good_answer)])

    reply = await scene.ask(CHAT, headers="X-Request-Id: mine\r\n")

    assert reply.headers["x-request-id"] == "mine"
    assert b"X-Request-Id: mine\r\n" in first.attempts[0].received
    assert b"X-Request-Id: mine-2\r\n" in second.attempts[0].received


async def test_a_clients_key_never_goes_to_a_second_backend(start, script):
    first, second = await script(), await script()
    scene = await start(first=first, second=second)
    first.play(FAILS)
    second.play([ReadRequest(), Send(CHAT.good_answer)])

    await scene.ask(CHAT, headers="Authorization: Bearer sk-clients-own\r\n")

    assert b"sk-clients-own" in first.attempts[0].received
    assert b"sk-clients-own" not in second.attempts[0].received


async def test_every_attempt_sends_the_same_bytes(start, script):
    first, second = await script(), await script()
    scene = await start(first=first, second=second)
    first.play(FAILS)
    second.play([ReadRequest(), Send(CHAT.good_answer)])
    body = CHAT.body(stream=False, unknown={"kept": [1, 2, 3.0]})

    await scene.ask(CHAT, body=body)

    assert first.attempts[0].received.endswith(b"\r\n\r\n" + body)
    assert second.attempts[0].received.endswith(b"\r\n\r\n" + body)


# fallbacks


WITH_FALLBACK = {"routing": f'fallbacks = {{"{MODEL}" = ["{OTHER}"]}}'}
MODELS_OF_SECOND = {"second": {"models": {OTHER: {}}}}


@pytest.mark.parametrize("stream", [False, True])
async def test_when_every_backend_of_a_model_has_failed_its_fallback_answers(start, script, dialect, stream):
    first, second = await script(), await script()
    scene = await start(first=first, second=second, options=MODELS_OF_SECOND, settings=WITH_FALLBACK)
    first.play([ReadRequest(), Close()])
    good = dialect.good_stream if stream else dialect.good_answer
    second.play([ReadRequest(), Send(good.replace(MODEL.encode(), OTHER.encode() + b" "))])

    reply = await scene.ask(dialect, stream=stream)

    assert (reply.status, reply.headers["x-nexus-backend"]) == (200, "second")
    assert (reply.headers["x-nexus-fallback-model"], reply.headers["x-nexus-attempts"]) == (OTHER, "2")
    assert reply.headers["x-nexus-route-reason"] == "failover"
    assert f'"model": "{OTHER}"'.encode() in second.attempts[0].received
    assert scene.outcomes[0].fallback_model == OTHER


async def test_when_the_fallback_has_failed_too_the_last_error_is_told(start, script, dialect):
    first, second = await script(), await script()
    scene = await start(first=first, second=second, options=MODELS_OF_SECOND, settings=WITH_FALLBACK)
    first.play([ReadRequest(), Close()])
    second.play([ReadRequest(), Close()])

    reply = await scene.ask(dialect)

    assert (reply.status, reply.code, reply.headers["x-should-retry"]) == (502, "bad_gateway", "false")
    assert [attempt.model for attempt in scene.outcomes[0].attempts] == [MODEL, OTHER]


def context_of(reply):
    return msgspec.json.decode(reply.body)["context"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chain_of_which_nobody_is_reached_is_told_as_routing_records_it(start, script, stream):
    first = await script()
    options = {"first": {"url": f"http://127.0.0.1:{free_port()}"}}
    scene = await start(first=first, options=options, settings=WITH_FALLBACK)

    replies = [await scene.ask(CHAT, stream=stream) for _ in range(2)]

    # The second time its breaker is open, and it is asked all the same, since there is nobody else.
    assert [(reply.status, reply.code) for reply in replies] == [(503, "fallback_exhausted")] * 2
    context = context_of(replies[0])
    assert context["fallback_chain"] == [MODEL, OTHER]
    failures = [{"model": MODEL, "code": "no_healthy_backend"}, {"model": OTHER, "code": "model_not_found"}]
    assert context["failures"] == failures
    reasons = [(reason["agent_id"], reason["reconciler"], reason["reason"]) for reason in context["rejection_reasons"]]
    assert reasons == [("first", "attempt", "It was asked and failed: refused")]
    assert replies[0].headers["x-nexus-rejection-reasons"] == "1 agents rejected by attempt"
    recorded = next(iter(scene.nexus.plane.decisions))
    assert (recorded.last_reject.code, recorded.outcome.code) == ("fallback_exhausted", "fallback_exhausted")


async def test_the_last_failure_of_an_exhausted_chain_keeps_its_code_and_tells_the_chain(start, script):
    both = await script()
    options = {"both": {"models": {MODEL: {}, OTHER: {}}}}
    scene = await start(both=both, options=options, settings=WITH_FALLBACK)
    both.play([ReadRequest(), Close()])

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.code, len(scene.outcomes[0].attempts)) == (502, "bad_gateway", 2)
    context = context_of(reply)
    assert context["fallback_chain"] == [MODEL, OTHER]
    assert [reason["agent_id"] for reason in context["rejection_reasons"]] == ["both"]


async def test_a_backends_own_words_are_passed_on_at_the_end_of_a_chain_too(start, script):
    first, second = await script(), await script()
    scene = await start(first=first, second=second, options=MODELS_OF_SECOND, settings=WITH_FALLBACK)
    play_all({"first": first, "second": second}, [ReadRequest(), Send(whole_answer(BUSY, status=429))])

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.body) == (429, BUSY)


async def test_a_chain_that_was_not_followed_to_its_end_is_not_told(start, script):
    first, second = await script(), await script()
    options = {"first": {"url": f"http://127.0.0.1:{free_port()}"}, **MODELS_OF_SECOND}
    scene = await start(first=first, second=second, options=options, settings={**WITH_FALLBACK, "max_retries": 0})

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.code) == (503, "no_healthy_backend")
    assert "fallback_chain" not in context_of(reply)


async def test_a_policy_can_forbid_fallbacks(start, script):
    first, second = await script(), await script()
    policy = f'policies = [{{model_pattern = "{MODEL}", fallback_allowed = false}}]'
    settings = {"routing": f"{WITH_FALLBACK['routing']}\n{policy}"}
    scene = await start(first=first, second=second, options=MODELS_OF_SECOND, settings=settings)
    first.play([ReadRequest(), Close()])

    assert (await scene.ask(CHAT)).status == 502
    assert second.attempts == []


# once begun, never again


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
async def test_what_has_begun_is_never_tried_again(start, script, dialect):
    first, second = await script(), await script()
    scene = await start(first=first, second=second)
    first.play([ReadRequest(), Send(dialect.stream_head() + chunks(*dialect.events[:3])), Close()])

    reply = await scene.ask(dialect, stream=True)

    assert not reply.looks_finished(dialect)
    assert second.attempts == []
    assert len((await scene.books.outcome()).attempts) == 1


async def test_what_a_backend_does_not_support_is_asked_of_others_first(start, script):
    embedder, chatter = await script(), await script()
    scene = await start(embedder=embedder, chatter=chatter)
    embedder.play([ReadRequest(), Send(whole_answer(BUSY, status=501))] * 20)
    chatter.play([ReadRequest(), Send(CHAT.good_answer)] * 3)

    replies = [await scene.ask(CHAT) for _ in range(3)]

    assert [reply.headers["x-nexus-backend"] for reply in replies] == ["chatter"] * 3
    assert len(embedder.attempts) == 1
    assert scene.backend("embedder").unsupported == {("openai.chat", MODEL)}


async def test_what_the_only_backend_does_not_support_is_told_in_its_own_words(start, script):
    embedder = await script()
    scene = await start(embedder=embedder)
    embedder.play([ReadRequest(), Send(whole_answer(BUSY, status=501))] * 20)

    replies = [await scene.ask(CHAT) for _ in range(2)]

    assert [(reply.status, reply.body) for reply in replies] == [(501, BUSY)] * 2
