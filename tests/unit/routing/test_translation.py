"""A backend of another protocol gets a request where none of the client's own is left, and the decision says so."""

import pytest

from nexus.config.schema import RoutingConfig
from nexus.routing.assembly import build_router
from nexus.routing.core_stages.analyze import Analyze
from nexus.routing.decision import Reject
from nexus.testing.builders import make_backend, make_fleet, make_intent
from nexus.wire.protocols import EVERY

MESSAGES = next(endpoint for endpoint in EVERY if endpoint.name == "anthropic.messages")
OTHERS = ("openai.chat", "ollama.chat")


@pytest.fixture
def decide(routing):
    """Give a function that routes one request to ``anthropic.messages``."""

    def decided(fleet, **config):
        router = build_router(RoutingConfig(**config), translations={"anthropic.messages": OTHERS})
        return routing(router, endpoint=MESSAGES).next(fleet)

    return decided


def backend(name, *endpoints, **fields):
    return make_backend(name, endpoints=frozenset(endpoints), **fields)


def test_the_best_endpoint_that_a_backend_has_is_asked(decide):
    assert decide(make_fleet(backend("a", *OTHERS))).translated_to == "openai.chat"
    assert decide(make_fleet(backend("a", "ollama.chat"))).translated_to == "ollama.chat"
    assert decide(make_fleet(backend("a", "anthropic.messages", *OTHERS))).translated_to is None


@pytest.mark.parametrize("strategy", ["smart", "round_robin", "least_loaded", "priority_only"])
def test_the_clients_protocol_comes_first_however_busy(decide, strategy):
    busy = backend("native", "anthropic.messages", priority=90)
    busy.load.acquire(50_000, 50_000)
    fleet = make_fleet(backend("foreign", "openai.chat", priority=1), busy)

    assert decide(fleet, strategy=strategy).backend.name == "native"


def test_a_backend_without_any_of_them_is_refused(decide):
    assert decide(make_fleet(backend("a", "openai.embeddings"))).code == "protocol_not_supported"


def test_an_endpoint_that_a_backend_does_not_support_is_the_last_choice(decide):
    lacking = frozenset({("anthropic.messages", "llama3")})
    fleet = make_fleet(backend("a", "anthropic.messages", "openai.chat", unsupported=lacking))
    alone = make_fleet(backend("a", "anthropic.messages", unsupported=lacking))

    assert decide(fleet).translated_to == "openai.chat"
    assert decide(alone).translated_to is None


def test_a_backend_is_asked_at_each_endpoint_in_turn_as_long_as_it_lacks_them(routing):
    fleet = make_fleet(backend("a", "anthropic.messages", *OTHERS))
    search = routing(build_router(RoutingConfig(), translations={"anthropic.messages": OTHERS}), endpoint=MESSAGES)
    asked = []

    while not isinstance(reserved := search.next(fleet), Reject):
        asked.append(reserved.translated_to)
        reserved.backend.load.release()
        search.note_unserved(reserved)

    assert asked == [None, *OTHERS]


def test_a_stage_can_tell_which_backends_need_a_translation():
    native, foreign = backend("native", "anthropic.messages"), backend("foreign", "openai.chat")
    intent = make_intent(backends=(native, foreign), endpoint=MESSAGES, other_endpoints=OTHERS)

    assert [intent.is_translated_for(each) for each in (native, foreign)] == [False, True]
    Analyze().reconcile(intent)
    assert [(verdict.backend, verdict.factor) for verdict in intent.weights] == [("foreign", 0.001)]
