"""A prompt that exceeds one backend's context is tried on those with a longer one, and on no others."""

import json

import pytest

from nexus.simulator import Decline, SimulatedModel
from tests.support.dialects import CHAT, MODEL

KINDS = ["vllm", "llamacpp", "sglang", "lmstudio", "generic"]
LONG = [{"role": "user", "content": "word " * 8000}]
"""Ten thousand tokens, by the simulated tokenizer."""
ESCAPED = [{"role": "user", "content": "слово " * 1300}]
"""Some 3 600 tokens, in more than 40 000 bytes of JSON in which each letter is escaped."""
each_kind = pytest.mark.parametrize("kind", KINDS)
streamed_or_not = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture
def sized(simulate):
    """Make a simulator whose model has a context of so many tokens."""

    async def make(name, context, **settings):
        return await simulate(name, models=(SimulatedModel(MODEL, context),), **settings)

    return make


def facts(**contexts):
    """Say in the configuration how long each backend's context is; None: it is not known."""
    return {
        name: {"models": {MODEL: {} if context is None else {"context_length": context}}}
        for name, context in contexts.items()
    }


def tried(scene):
    return [attempt.backend for attempt in scene.outcomes[-1].attempts]


@pytest.fixture
def refusing(sized):
    """Make a simulator that refuses each prompt as too long, in its own words, and names a context of 4096."""

    async def make(name, **settings):
        made = await sized(name, 4096, **settings)
        made.faults.set(Decline(reason="too_long"))
        return made

    return make


@each_kind
@streamed_or_not
async def test_a_backend_with_a_longer_context_answers_instead(start, sized, refusing, kind, stream):
    small, large = await refusing("small", kind=kind), await sized("large", 32_768)
    scene = await start(small=small, large=large, options=facts(small=4096, large=32_768))

    reply = await scene.ask(CHAT, stream=stream)

    assert reply.status == 200
    assert tried(scene) == ["small", "large"]
    assert scene.outcomes[-1].attempts[0].fault == "context_exceeded"


@each_kind
@streamed_or_not
async def test_where_no_context_is_longer_the_engine_s_own_error_is_told(start, sized, refusing, kind, stream):
    small, other = await refusing("small", kind=kind), await sized("other", 4096)
    scene = await start(small=small, other=other, options=facts(small=4096, other=4096))

    reply = await scene.ask(CHAT, stream=stream)

    assert reply.status == 400
    assert tried(scene) == ["small"]
    assert b"4096" in reply.body
    assert "x-nexus-attempts" not in reply.headers


async def test_only_one_backend_whose_context_is_unknown_is_tried(start, refusing):
    # A generic server lists no contexts.
    backends = {name: await refusing(name, kind="generic") for name in ("one", "two", "three")}
    scene = await start(**backends, options=facts(one=4096, two=None, three=None))

    reply = await scene.ask(CHAT)

    assert reply.status == 400
    assert tried(scene) == ["one", "two"]


async def test_a_fallback_with_a_longer_context_answers_instead(start, simulate, refusing):
    small = await refusing("small")
    large = await simulate("large", models=(SimulatedModel("long", 32_768),))
    settings = {"routing": f'[routing.fallbacks]\n{json.dumps(MODEL)} = ["long"]'}
    options = {"large": {"models": {"long": {"context_length": 32_768}}}, **facts(small=4096)}
    scene = await start(small=small, large=large, options=options, settings=settings)

    reply = await scene.ask(CHAT)

    assert (reply.status, reply.headers["x-nexus-fallback-model"]) == (200, "long")


async def test_it_says_nothing_against_the_backend(start, refusing):
    scene = await start(small=await refusing("small"), options=facts(small=4096))

    for _ in range(20):
        await scene.ask(CHAT)

    assert scene.backend("small").breaker == "closed"


async def test_a_prompt_that_may_be_too_long_goes_to_the_longer_context_first(start, sized):
    small, large = await sized("small", 4096), await sized("large", 32_768)
    scene = await start(small=small, large=large, options=facts(small=4096, large=32_768))

    reply = await scene.ask(CHAT, body=CHAT.body(stream=False, messages=LONG))

    assert reply.status == 200
    assert tried(scene) == ["large"]


@each_kind
async def test_a_prompt_that_may_be_too_long_is_left_to_the_engine_to_refuse(start, sized, kind):
    scene = await start(small=await sized("small", 4096, kind=kind), options=facts(small=4096))

    refused = await scene.ask(CHAT, body=CHAT.body(stream=False, messages=LONG))
    taken = await scene.ask(CHAT, body=CHAT.body(stream=False, messages=ESCAPED))

    assert (refused.status, taken.status) == (400, 200)
    assert tried(scene) == ["small"]
