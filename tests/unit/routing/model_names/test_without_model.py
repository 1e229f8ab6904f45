"""Requests that name no model: how they are resolved, which policies apply, and which backend gets them."""

import pytest

from nexus.config.schema import RoutingConfig
from nexus.domain.backend import Status
from nexus.domain.request import Kept, Reference, Requirements
from nexus.routing.assembly import build_router
from nexus.routing.decision import Reject, Reserved
from nexus.routing.decision_record import Request
from nexus.routing.policies import Policy
from nexus.routing.router import Routing
from nexus.testing.builders import make_backend, make_fleet
from nexus.wire.protocols import EVERY

ENDPOINTS = {endpoint.name: endpoint for endpoint in EVERY}
CHAT, COMPLETION, FILES = (
    ENDPOINTS[name] for name in ("openai.chat", "openai.native_completion", "openai.file_upload")
)


@pytest.fixture
def decide(router):
    """Give a function that routes a request for *model*."""

    def decided(fleet, endpoint=CHAT, *, model="", kept=None, with_router=None, **config):
        search = Routing(
            with_router or router(**config),
            Request(
                id="r-1",
                endpoint=endpoint,
                requirements=Requirements(model=model),
                headers={},
                received_unix_s=0.0,
                kept=kept,
            ),
        )
        return search.next(fleet)

    return decided


def kept_by(backend, model="llama3", param="previous_response_id"):
    return Kept(Reference("resp_1", param), backend, model)


def test_the_only_model_is_asked(decide):
    fleet = make_fleet(make_backend("gpu-1", models=["llama3"]), make_backend("gpu-2", models=["llama3"]))

    assert decide(fleet).model == "llama3"


def test_the_only_model_may_be_one_that_needs_a_translation(decide):
    translating = build_router(RoutingConfig(), translations={"openai.chat": ("anthropic.messages",)})
    fleet = make_fleet(make_backend("a", kind="anthropic", models=["claude"]))

    found = decide(fleet, with_router=translating)

    assert (found.model, found.translated_to) == ("claude", "anthropic.messages")


def test_a_model_that_serves_another_endpoint_alone_is_no_choice(decide):
    fleet = make_fleet(make_backend("gpu-1", models=["llama3"]), make_backend("a", kind="anthropic", models=["claude"]))

    assert decide(fleet).model == "llama3"


def test_one_model_in_two_spellings_is_one_model(decide):
    fleet = make_fleet(
        make_backend("gpu-1", models=["llama3"]),
        make_backend("laptop", kind="ollama", models=["llama3:latest"], spellings={"llama3": "llama3:latest"}),
    )

    assert decide(fleet).resolved_model == "llama3"


def test_of_several_models_none_is_guessed(decide):
    fleet = make_fleet(make_backend(models=["llama3", "qwen3"]))

    refused = decide(fleet)

    assert (refused.code, refused.param) == ("invalid_value", "model")
    assert "llama3, qwen3" in refused.message


def test_the_default_model_is_asked_by_its_alias_too(decide):
    fleet = make_fleet(make_backend(models=["llama3", "qwen3"]))

    assert decide(fleet, default_model="qwen3").model == "qwen3"
    assert decide(fleet, default_model="usual", aliases={"usual": "llama3"}).model == "llama3"
    assert decide(fleet, default_model="gone").code == "model_not_found"


def test_a_model_that_is_named_is_asked_and_not_the_default(decide):
    fleet = make_fleet(make_backend(models=["llama3", "qwen3"]))

    assert decide(fleet, model="llama3", default_model="qwen3").model == "llama3"


def test_an_endpoint_that_needs_no_model_is_answered_by_any_backend_that_serves_it(decide):
    fleet = make_fleet(
        make_backend("gpu-1", kind="vllm", models=["a"]), make_backend("gpu-2", kind="llamacpp", models=["b", "c"])
    )

    chosen = decide(fleet, COMPLETION)

    assert (chosen.backend.name, chosen.model) == ("gpu-2", "")


def test_the_default_model_has_a_say_where_a_model_may_be_named(decide):
    fleet = make_fleet(
        make_backend("gpu-1", kind="llamacpp", models=["a"]), make_backend("gpu-2", kind="llamacpp", models=["b"])
    )

    assert {decide(fleet, COMPLETION, default_model="b").backend.name for _ in range(8)} == {"gpu-2"}


def test_what_no_backend_serves_is_refused_in_words_that_say_so(decide):
    refused = decide(make_fleet(make_backend(kind="ollama")), FILES)

    assert refused.code == "protocol_not_supported"
    assert "No backend serves POST /v1/files" in refused.message


def test_every_policy_holds_for_a_request_without_a_model(router, decide):
    policies = [Policy(0, "a*", fallback_allowed=True, keys={}), Policy(1, "b*", fallback_allowed=True, keys={})]
    with_router = router(policies=policies)
    search = Routing(
        with_router,
        Request(id="r-1", endpoint=FILES, requirements=Requirements(model=""), headers={}, received_unix_s=0.0),
    )

    search.next(make_fleet(make_backend(kind="openai", models=["a1"])))

    assert [policy.index for policy in search.policies] == [0, 1, -1]


def test_a_keeper_alone_is_asked(decide):
    fleet = make_fleet(make_backend("gpu-1", priority=1), make_backend("gpu-2", priority=99))

    chosen = decide(fleet, model="llama3", kept=kept_by("gpu-2"))

    assert chosen.backend.name == "gpu-2"


def test_no_other_backend_takes_the_place_of_a_keeper_that_is_drained(decide):
    fleet = make_fleet(make_backend("gpu-1"), make_backend("gpu-2", status=Status.DRAINING))

    refused = decide(fleet, model="llama3", kept=kept_by("gpu-2"))

    assert (refused.code, refused.retry_after_s) == ("no_healthy_backend", 5)


@pytest.mark.parametrize(
    ("param", "code"),
    [
        ("previous_response_id", "previous_response_not_found"),
        ("file_id", "object_not_found"),
        (None, "object_not_found"),
    ],
)
def test_a_keeper_that_has_left_is_named_and_no_fallback_takes_its_place(decide, param, code):
    fleet = make_fleet(make_backend("gpu-1", models=["llama3", "other"]))
    kept = kept_by("gpu-2", param=param)

    refused = decide(fleet, model="llama3", kept=kept, fallbacks={"llama3": ("other",)})

    assert isinstance(refused, Reject)
    assert (refused.code, refused.param) == (code, param)
    assert "'gpu-2'" in refused.message


def test_a_keeper_that_does_not_have_the_model_is_not_asked_for_it(decide):
    fleet = make_fleet(make_backend("gpu-1", models=["qwen3"]), make_backend("gpu-2", models=["llama3"]))

    refused = decide(fleet, model="qwen3", kept=kept_by("gpu-2"))

    assert refused.code == "previous_response_not_found"
    assert "does not have the model 'qwen3'" in refused.message


def test_what_is_kept_is_shown_even_if_its_model_is_gone(decide):
    fleet = make_fleet(make_backend("gpu-1", kind="openai", models=["other"]))

    shown = decide(fleet, ENDPOINTS["openai.response"], kept=kept_by("gpu-1", param=None))

    assert isinstance(shown, Reserved)
    assert shown.backend.name == "gpu-1"


def test_a_keeper_that_does_not_serve_the_path_is_said_to_not_serve_it(decide):
    fleet = make_fleet(make_backend("gpu-1", kind="vllm"), make_backend("cloud", kind="openai"))

    refused = decide(fleet, ENDPOINTS["openai.response_items"], kept=kept_by("gpu-1", param=None))

    assert refused.code == "protocol_not_supported"
