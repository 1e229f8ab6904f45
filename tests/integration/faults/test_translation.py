"""A backend of another protocol answers, and every fault of it looks to the client as one of its own protocol."""

import json

import msgspec
import pytest

from nexus.routing.explain.build import as_explanation
from tests.support.dialects import ANTHROPIC, CHAT, DIALECTS, LAST_CHUNK, MODEL, OLLAMA, RESPONSES, chunks, whole_answer
from tests.support.scripted import Close, ReadRequest, Send, Stall

ONLY = {
    "chat": {"protocols": ["openai.chat"]},
    "responses": {"protocols": ["openai.responses"]},
    "messages": {"protocols": ["anthropic"]},
    "ollama": {"protocols": ["ollama"]},
}
PAIRS = [(client, backend) for client in DIALECTS for backend in DIALECTS if client is not backend]
TOOLS = [{"name": "f", "input_schema": {"type": "object"}}]
UNKNOWN_PATH = whole_answer(b'{"detail":"Not Found"}', status=404)


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0].name}-on-{pair[1].name}")
def pair(request):
    return request.param


@pytest.fixture
async def start_only(start, script):
    """Return a function that starts a proxy in front of one backend, which has only one endpoint."""

    async def make(dialect, **settings):
        backend = await script()
        return await start(gpu=backend, options={"gpu": ONLY[dialect.name]}, **settings), backend

    return make


async def test_a_whole_answer_is_in_the_clients_protocol(start_only, pair):
    client, spoken = pair
    scene, backend = await start_only(spoken)
    backend.play([ReadRequest(), Send(spoken.good_answer)])

    reply = await scene.ask(client)

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-nexus-translated"] == scene.outcomes[0].translated
    assert "Hello" in reply.body.decode() or spoken is RESPONSES
    assert backend.attempts[0].received.startswith(f"POST {spoken.path} ".encode())


async def test_a_stream_is_in_the_clients_protocol(start_only, pair):
    client, spoken = pair
    scene, backend = await start_only(spoken)
    backend.play([ReadRequest(), Send(spoken.good_stream)])

    reply = await scene.ask(client, stream=True)

    assert reply.status == 200
    assert reply.headers["content-type"].encode() == client.stream_type
    assert client.end in reply.body
    assert client.failure not in reply.body


async def test_a_stream_that_breaks_never_looks_complete(start_only, pair):
    client, spoken = pair
    scene, backend = await start_only(spoken)
    backend.play([ReadRequest(), Send(spoken.stream_head() + chunks(*spoken.events[:3])), Close()])

    reply = await scene.ask(client, stream=True)

    assert client.failure in reply.body or b"response.failed" in reply.body
    assert client.end not in reply.body or client is CHAT
    assert scene.outcomes[0].result in ("truncated", "failed")


async def test_a_stream_that_ends_without_its_end_mark_is_an_error(start_only, pair):
    client, spoken = pair
    scene, backend = await start_only(spoken)
    backend.play([ReadRequest(), Send(spoken.stream_head() + chunks(*spoken.events[:3]) + LAST_CHUNK)])

    reply = await scene.ask(client, stream=True)

    assert client.failure in reply.body or b"response.failed" in reply.body
    assert scene.outcomes[0].code == "stream_truncated"


async def test_a_backends_own_error_keeps_its_status(start_only, pair):
    client, spoken = pair
    scene, backend = await start_only(spoken)
    backend.play([ReadRequest(), Send(whole_answer(b'{"error":{"message":"temperature is too high"}}', status=400))])

    reply = await scene.ask(client)

    error = json.loads(reply.body)["error"]
    assert reply.status == 400
    assert "temperature is too high" in (error if client is OLLAMA else error["message"])


async def test_a_client_that_leaves_stops_the_backend(start_only, pair):
    client, spoken = pair
    scene, backend = await start_only(spoken)
    backend.play([ReadRequest(), Send(spoken.stream_head() + chunks(*spoken.events[:2])), Stall()])

    connection = await scene.connect()
    connection.send(client, stream=True)
    await connection.head()
    connection.leave()

    await backend.ended()
    assert backend.attempts[0].cause == "client_left"


async def test_what_is_no_answer_of_the_backends_protocol_is_tried_elsewhere(start, script):
    broken, good = await script(), await script()
    scene = await start(broken=broken, good=good, options=dict.fromkeys(("broken", "good"), ONLY[CHAT.name]))
    broken.play([ReadRequest(), Send(whole_answer(b'{"choices":"none"}'))])
    good.play([ReadRequest(), Send(CHAT.good_answer)])

    reply = await scene.ask(ANTHROPIC)

    assert (reply.status, reply.headers["x-nexus-backend"]) == (200, "good")


async def test_a_backend_that_speaks_the_clients_protocol_comes_first(start, script):
    foreign, native = await script(), await script()
    scene = await start(
        foreign=foreign, native=native, options={"foreign": ONLY[CHAT.name], "native": ONLY[ANTHROPIC.name]}
    )
    foreign.play([ReadRequest(), Send(CHAT.good_answer)])
    native.play([ReadRequest(), Send(whole_answer(b"{}", status=503))])

    reply = await scene.ask(ANTHROPIC)

    assert [attempt.backend for attempt in scene.outcomes[0].attempts] == ["native", "foreign"]
    assert (reply.status, reply.headers["x-nexus-translated"]) == (200, "anthropic->openai")


@pytest.mark.parametrize(
    "switch", ["enabled = false", 'disabled_pairs = ["anthropic->openai"]'], ids=["all", "this pair"]
)
async def test_a_translation_that_is_switched_off_is_refused_as_before(start_only, switch):
    scene, _ = await start_only(CHAT, settings={"routing": f"[translation]\n{switch}"})

    reply = await scene.ask(ANTHROPIC)

    assert (reply.status, reply.code) == (404, "protocol_not_supported")


async def test_what_cannot_be_said_there_goes_to_a_backend_where_it_can(start, script):
    ollama, chat = await script(), await script()
    scene = await start(ollama=ollama, chat=chat, options={"ollama": ONLY[OLLAMA.name], "chat": ONLY[CHAT.name]})
    chat.play([ReadRequest(), Send(CHAT.good_answer)])

    body = ANTHROPIC.body(stream=False, tools=TOOLS, tool_choice={"type": "any"})
    reply = await scene.ask(ANTHROPIC, body=body)

    assert (reply.status, reply.headers["x-nexus-backend"]) == (200, "chat")
    assert ollama.attempts == []


async def test_what_can_be_said_nowhere_is_refused_by_the_name_of_its_field(start_only):
    scene, _ = await start_only(OLLAMA)

    body = ANTHROPIC.body(stream=False, tools=TOOLS, tool_choice={"type": "any"})
    reply = await scene.ask(ANTHROPIC, body=body)

    error = json.loads(reply.body)["error"]
    assert (reply.status, error["type"], error["param"]) == (400, "invalid_request_error", "tool_choice")
    assert error["code"] == "not_translatable"


async def test_a_server_without_the_path_is_asked_again_in_translation(start, script):
    backend = await script()
    scene = await start(gpu=backend, options={"gpu": {"protocols": ["openai"]}})
    answers = UNKNOWN_PATH, CHAT.good_answer, CHAT.good_answer
    backend.play([step for answer in answers for step in (ReadRequest(), Send(answer))])

    first = await scene.ask(RESPONSES)
    second = await scene.ask(RESPONSES)

    assert [first.status, second.status] == [200, 200]
    assert [len(outcome.attempts) for outcome in scene.outcomes] == [2, 1]
    assert second.headers["x-nexus-translated"] == "responses->openai"


async def test_a_missing_model_is_no_missing_path(start, script):
    backend = await script()
    scene = await start(gpu=backend, options={"gpu": {"protocols": ["openai"]}})
    missing = b'{"error":{"message":"The model `x` does not exist","code":404}}'
    backend.play([ReadRequest(), Send(whole_answer(missing, status=404))])

    reply = await scene.ask(RESPONSES)

    assert (reply.status, len(scene.outcomes[0].attempts)) == (404, 1)


async def test_tokens_that_no_backend_counts_are_estimated_and_it_says_so(start_only):
    scene, backend = await start_only(CHAT)
    count_tokens = msgspec.structs.replace(ANTHROPIC, path="/v1/messages/count_tokens")

    reply = await scene.ask(count_tokens)

    assert (reply.status, reply.headers["x-nexus-estimated"]) == (200, "tokens")
    assert list(json.loads(reply.body)) == ["input_tokens"]
    assert backend.attempts == []


async def test_the_decision_says_what_was_left_out(start_only):
    scene, backend = await start_only(OLLAMA)
    backend.play([ReadRequest(), Send(OLLAMA.good_answer)])

    reply = await scene.ask(CHAT, body=CHAT.body(stream=False, logprobs=True, n=2))

    (record,) = scene.nexus.plane.decisions
    told = as_explanation(record, source="request")
    assert (told.decision.translated, told.outcome.translated) == ("openai->ollama", "openai->ollama")
    assert set(told.outcome.untranslated) == {"logprobs", "n"}
    assert reply.headers["x-nexus-untranslated"] == "logprobs, n"


async def test_a_very_long_answer_is_translated_whole(start_only, monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.response.MAX_HELD_BYTES", 100_000)
    scene, backend = await start_only(ANTHROPIC)
    words = b"word " * 60_000
    message = b'{"type":"message","role":"assistant","content":[{"type":"text","text":"%b"}],"stop_reason":"end_turn"}'
    backend.play([ReadRequest(), Send(whole_answer(message % words))])

    reply = await scene.ask(CHAT)

    assert json.loads(reply.body)["choices"][0]["message"]["content"].encode() == words


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_answer_that_cannot_be_read_never_looks_empty(start_only, pair, is_stream):
    client, spoken = pair
    scene, backend = await start_only(spoken)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: br\r\nContent-Length: 4\r\n\r\n"
    backend.play([ReadRequest(), Send(head + b"\x0b\x01\x80\x03")])

    reply = await scene.ask(client, stream=is_stream)

    assert reply.status == 502
    assert b"cannot be translated" in reply.body


async def test_an_answer_that_is_too_long_to_translate_is_an_error(start_only, monkeypatch):
    monkeypatch.setattr("nexus.proxy.exchange.failover.MAX_TRANSLATED_BYTES", 100_000)
    scene, backend = await start_only(OLLAMA)
    backend.play([ReadRequest(), Send(whole_answer(b'{"message":{"content":"%b"},"done":true}' % (b"word " * 60_000)))])

    reply = await scene.ask(CHAT)

    assert reply.status == 502
    assert b"cannot be translated" in reply.body


async def test_a_limit_that_the_client_did_not_set_leaves_room_for_the_prompt(start, script):
    backend = await script()
    options = {"gpu": {**ONLY["messages"], "models": {MODEL: {"context_length": 8192}}}}
    scene = await start(gpu=backend, options=options)
    backend.play([ReadRequest(), Send(ANTHROPIC.good_answer)])

    reply = await scene.ask(CHAT)

    sent = json.loads(backend.attempts[0].received.partition(b"\r\n\r\n")[2])
    assert reply.status == 200
    assert 4096 < sent["max_tokens"] < 8192
