import json

from nexus.domain.kinds import ServerFacts
from nexus.domain.model import ModelFacts
from nexus.fleet.models import lookups


def one(decode, answer, **known):
    (facts,) = decode(json.dumps(answer).encode(), (ModelFacts(name="m", **known),))
    return facts


def test_ollama_shows_the_context_of_its_architecture():
    facts = one(
        lookups.decode_ollama_show,
        {
            "capabilities": ["completion", "tools", "vision"],
            "model_info": {
                "general.architecture": "mllama",
                "clip.context_length": 77,
                "mllama.context_length": 131072,
            },
        },
    )

    assert (facts.context_length, facts.vision, facts.tools, facts.embeddings) == (131072, True, True, None)
    assert facts.thinking is False


def test_an_ollama_embedding_model_is_one():
    assert one(lookups.decode_ollama_show, {"capabilities": ["embedding"]}).embeddings is True


def test_old_ollama_leaves_capabilities_open():
    facts = one(lookups.decode_ollama_show, {"model_info": {"llama.context_length": 8192}})

    assert (facts.context_length, facts.vision, facts.tools) == (8192, None, None)


def test_ollama_shows_where_a_model_runs():
    assert one(lookups.decode_ollama_show, {"remote_host": "https://ollama.com:443"}).zone == "open"


def test_a_model_that_ollama_listed_as_forwarded_stays_so():
    (facts,) = lookups.decode_ollama_show(b"{}", (ModelFacts(name="m", zone="open"),))

    assert facts.zone == "open"


def test_llamacpp_gives_each_request_the_context_of_one_slot():
    props = {
        "total_slots": 2,
        "build_info": "b6000-abc",
        "default_generation_settings": {"n_ctx": 4096},
        "modalities": {"vision": False},
    }

    facts = one(lookups.decode_llamacpp_props, props)

    assert (facts.context_length, facts.vision) == (4096, False)
    assert lookups.decode_llamacpp_server(json.dumps(props).encode()) == ServerFacts("b6000-abc", 2)


def test_a_llamacpp_router_says_nothing_of_its_many_models():
    models = (ModelFacts(name="a"), ModelFacts(name="b"))

    assert lookups.decode_llamacpp_props(b'{"default_generation_settings":{"n_ctx":1}}', models) == models


def test_a_llamacpp_router_says_nothing_of_its_only_model_either():
    models = (ModelFacts(name="a"),)
    props = b'{"role":"router","model_alias":"llama-server","modalities":{"vision":false}}'

    assert lookups.decode_llamacpp_props(props, models) == models


def test_llamacpp_tells_its_aliases_separated_by_commas():
    models = (ModelFacts(name="m", aliases=("x",)),)

    (facts,) = lookups.decode_llamacpp_props(b'{"model_alias":"m, a,,b ,x"}', models)

    assert facts.aliases == ("x", "a", "b")


def test_a_further_instance_of_an_lmstudio_model_has_a_context_of_its_own():
    instances = [
        {"id": "m", "config": {"context_length": 8192}},
        {"id": "m:2", "config": {"context_length": 2048}},
        "odd",
    ]
    row = {"key": "m", "max_context_length": 131072, "loaded_instances": instances, "capabilities": {"vision": True}}
    models = (ModelFacts(name="m"), ModelFacts(name="m:2"))

    facts = lookups.decode_lmstudio_v1(json.dumps({"models": [row]}).encode(), models)

    assert [(f.name, f.context_length, f.vision) for f in facts] == [("m", 2048, True), ("m:2", 2048, True)]


def test_sglang_tells_vision_and_embeddings():
    facts = one(lookups.decode_sglang_model, {"has_image_understanding": True, "is_generation": False})

    assert (facts.vision, facts.embeddings) == (True, True)


def test_lmstudio_tells_what_is_loaded_before_what_is_possible():
    row = {
        "type": "llm",
        "key": "m",
        "max_context_length": 131072,
        "loaded_instances": [{"id": "m", "config": {"context_length": 8192, "parallel": 4}}],
        "capabilities": {"vision": True, "trained_for_tool_use": True},
    }

    facts = one(lookups.decode_lmstudio_v1, {"models": [row]})

    assert (facts.context_length, facts.vision, facts.tools, facts.embeddings) == (8192, True, True, None)


def test_older_lmstudio_tells_types():
    facts = one(lookups.decode_lmstudio_v0, {"data": [{"id": "m", "type": "embeddings", "max_context_length": 2048}]})

    assert (facts.context_length, facts.embeddings, facts.vision) == (2048, True, None)


def test_facts_that_a_response_lacks_stay():
    known = ModelFacts(name="m", context_length=5)

    assert lookups.decode_lmstudio_v1(b'{"models":[{"key":"other"}]}', (known,)) == (known,)


def test_a_version_is_read():
    assert lookups.decode_version(b'{"version":"0.33.0"}') == ServerFacts("0.33.0")
