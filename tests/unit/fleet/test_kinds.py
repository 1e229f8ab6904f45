import pytest

from nexus.fleet.kinds import KINDS, PROTOCOL_ENDPOINTS

EVERY_ENDPOINT = frozenset().union(*PROTOCOL_ENDPOINTS.values())


def paths(kind):
    gets = [kind.health_path, kind.listing.path, *(lookup.path for lookup in kind.server_lookups)]
    return gets + [lookup.path for lookup in kind.lookups]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
class TestEachKind:
    def test_speaks_only_endpoints_that_exist(self, kind):
        assert kind.endpoints
        assert kind.endpoints <= EVERY_ENDPOINT

    def test_is_never_sent_a_disturbing_request(self, kind):
        assert not {"/metrics", "/slots", "/health_generate"} & set(paths(kind))

    def test_posts_cost_nothing(self, kind):
        assert all(lookup.path == "/api/show" for lookup in kind.lookups if lookup.body)
        assert kind.is_local or not kind.lookups


def test_the_table_has_every_kind():
    expected = {"ollama", "vllm", "sglang", "llamacpp", "lmstudio", "exo", "generic"}
    clouds = {"openai", "anthropic", "azure", "google"}

    assert KINDS.keys() == expected | clouds


def test_sglang_is_not_asked_for_its_health_because_that_costs_a_token():
    assert KINDS["sglang"].health_path == "/model_info"


def test_only_the_clouds_are_open():
    assert {name for name, kind in KINDS.items() if kind.default_zone == "open"} == {
        "openai",
        "anthropic",
        "azure",
        "google",
    }


def test_llamacpp_has_its_habits():
    kind = KINDS["llamacpp"]

    assert kind.closes_after_stream
    assert kind.answers_to_any_model
    assert kind.has_unreliable_500
    assert "x-conversation-id" in kind.dropped_headers
