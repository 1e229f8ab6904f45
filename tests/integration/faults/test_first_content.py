"""What is told of an attempt's first content is the first content: no role, no ping, no other herald of it."""

import pytest

from nexus.proxy.exchange import response as answer
from nexus.testing.waiting import eventually
from tests.support.dialects import ANTHROPIC, CHAT, LAST_CHUNK, OLLAMA, RESPONSES, chunks
from tests.support.scripted import ReadRequest, Send, Wait

SILENCE_S = 0.15

HERALDS = {
    CHAT.name: (CHAT.comment, CHAT.events[0]),
    RESPONSES.name: (RESPONSES.events[0],),
    ANTHROPIC.name: (*ANTHROPIC.events[:2], b'event: ping\ndata: {"type":"ping"}\n\n'),
    OLLAMA.name: (OLLAMA.events[0].replace(b'"Hel"', b'""'),),
}


def content_of(dialect):
    """Return the events of a stream from its first content on."""
    return dialect.events if dialect is OLLAMA else tuple(e for e in dialect.events if e not in HERALDS[dialect.name])


@pytest.fixture
def stream(script, start):
    """Stream an answer whose content comes after a silence, and return what is told of it."""

    async def make(dialect, silence_s):
        backend = await script()
        scene = await start(only=backend)
        heralds = Send(dialect.stream_head() + chunks(*HERALDS[dialect.name]))
        content = Send(chunks(*content_of(dialect)))
        backend.play([ReadRequest(), heralds, Wait(silence_s), content, Wait(SILENCE_S), Send(LAST_CHUNK)])
        reply = await scene.ask(dialect, stream=True)
        assert dialect.end in reply.body
        await eventually(lambda: scene.outcomes)
        (outcome,) = scene.outcomes
        return outcome

    return make


async def test_it_is_neither_what_announces_it_nor_the_end(stream, dialect):
    outcome = await stream(dialect, SILENCE_S)

    (attempt,) = outcome.attempts
    assert attempt.is_stream
    assert SILENCE_S <= attempt.first_byte_s <= attempt.duration_s - SILENCE_S / 2


async def test_nor_is_it_when_these_went_to_the_client_before(stream, dialect, monkeypatch):
    monkeypatch.setattr(answer, "COMMIT_HOLD_S", SILENCE_S / 5)

    outcome = await stream(dialect, SILENCE_S)

    (attempt,) = outcome.attempts
    assert SILENCE_S <= attempt.first_byte_s <= attempt.duration_s - SILENCE_S / 2
    assert attempt.first_byte_s <= outcome.first_byte_s <= outcome.duration_s - SILENCE_S / 2


async def test_a_whole_answer_is_no_stream(start, script):
    backend = await script()
    scene = await start(only=backend)
    backend.play([ReadRequest(), Wait(SILENCE_S), Send(CHAT.good_answer)])

    await scene.ask(CHAT)
    await eventually(lambda: scene.outcomes)

    (attempt,) = scene.outcomes[0].attempts
    assert not attempt.is_stream
    assert attempt.first_byte_s >= SILENCE_S
