"""A decision is explained as it would be carried out: with the translation that it needs."""

import json

import pytest

from nexus.config.schema import RoutingConfig
from nexus.errors import RequestError
from nexus.proxy.exchange.dry_run import explained
from nexus.routing.assembly import build_router
from nexus.routing.decision_record import Request
from nexus.routing.explain.text import as_text
from nexus.testing.builders import CHAT, make_backend, make_fleet
from nexus.translation.dialects import translations
from nexus.wire.protocols import PROTOCOLS


def backend(name, *endpoints):
    return make_backend(name, endpoints=frozenset(endpoints))


@pytest.fixture
def explain():
    """Return a function that explains a chat at OpenAI's endpoint, for a fleet with these backends."""

    async def run(*backends, **members):
        body = json.dumps({"model": "llama3", "messages": [{"role": "user", "content": "hi"}], **members}).encode()
        requirements = PROTOCOLS[CHAT.protocol].understand(CHAT, body)
        request = Request("req-1", CHAT, requirements, {}, 1_777_777_777.0)
        router = build_router(RoutingConfig(), translations=translations())
        return await explained(router, request, body, make_fleet(*backends))

    return run


async def test_what_the_translation_leaves_out_is_named(explain):
    told = await explain(backend("claude", "anthropic.messages"), seed=1, n=2)

    assert (told.decision.decision, told.decision.translated) == ("route", "openai->anthropic")
    assert told.decision.untranslated == ("n", "seed")
    assert "translated openai->anthropic without n, seed" in as_text(told)


async def test_a_request_that_cannot_be_translated_is_rejected(explain):
    told = await explain(backend("codex", "openai.responses"), stop="END")

    assert (told.decision.decision, told.decision.code, told.decision.status) == ("reject", "not_translatable", 400)
    assert "'stop' cannot be translated" in told.decision.message
    assert [(why.backend, "'stop' cannot" in why.why) for why in told.why_not] == [("codex", True)]
    assert "reject: 400 not_translatable" in as_text(told)


async def test_another_backend_that_can_say_it_is_chosen(explain):
    told = await explain(backend("a-codex", "openai.responses"), backend("b-ollama", "ollama.chat"), stop="END")

    assert (told.decision.decision, told.decision.backend) == ("route", "b-ollama")
    assert told.decision.translated == "openai->ollama"


async def test_nothing_is_tried_for_a_backend_of_the_clients_protocol(explain):
    told = await explain(backend("gpu", "openai.chat"), messages=[{"role": "strange"}])

    assert (told.decision.decision, told.decision.translated, told.decision.untranslated) == ("route", None, ())


async def test_an_invalid_request_is_refused_as_it_would_be(explain):
    with pytest.raises(RequestError) as refused:
        await explain(backend("claude", "anthropic.messages"), messages=[{"role": "strange"}])

    assert refused.value.code == "invalid_value"


async def test_a_long_request_is_explained_as_well(explain):
    told = await explain(backend("claude", "anthropic.messages"), user="x " * 100_000, seed=1)

    assert told.decision.untranslated == ("seed",)
