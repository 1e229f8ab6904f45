import json

import pytest

from nexus.domain.kinds import ServerFacts
from nexus.fleet.models.listings import (
    decode_google_models,
    decode_llamacpp_mode,
    decode_ollama_tags,
    decode_openai_models,
)


def listing(*rows):
    return json.dumps({"object": "list", "data": list(rows)}).encode()


def test_a_vllm_card_tells_its_context():
    (facts,) = decode_openai_models(
        listing(
            {"id": "tiny", "created": 1700000000, "owned_by": "vllm", "root": "/models/tiny", "max_model_len": 4096}
        )
    )

    assert (facts.name, facts.context_length, facts.created) == ("tiny", 4096, 1700000000)
    assert (facts.vision, facts.tools, facts.json_mode, facts.embeddings) == (None, None, None, None)


def test_a_llamacpp_row_tells_its_modalities():
    (facts,) = decode_openai_models(listing({"id": "a.gguf", "architecture": {"input_modalities": ["text", "image"]}}))

    assert facts.vision is True


def test_a_cloud_row_tells_what_it_can():
    (facts,) = decode_openai_models(
        listing(
            {
                "id": "m",
                "context_length": 200_000,
                "capabilities": {"vision": False, "function_calling": True},
                "supported_parameters": ["tools", "response_format"],
            }
        )
    )

    assert (facts.context_length, facts.vision, facts.tools, facts.json_mode) == (200_000, False, True, True)


def test_a_google_model_has_the_name_that_requests_use():
    (facts,) = decode_google_models(listing({"id": "models/gemini-3-flash", "owned_by": "google"}))

    assert facts.name == "gemini-3-flash"


def test_an_anthropic_row_has_a_date():
    (facts,) = decode_openai_models(
        b'{"data":[{"type":"model","id":"claude-x","created_at":"2025-02-19T00:00:00Z"}],"has_more":false}'
    )

    assert facts.created == 1739923200


def test_ollama_tags_carry_the_digest_by_which_a_changed_model_is_known():
    (facts,) = decode_ollama_tags(
        b'{"models":[{"name":"llama3:latest","model":"llama3:latest","modified_at":"2025-05-04T17:37:44.706015396-07:00",'
        b'"size":3338801804,"digest":"a2af","details":{"family":"gemma3"}}]}'
    )

    assert (facts.name, facts.revision, facts.created) == ("llama3:latest", "a2af", 1746405464)
    assert facts.vision is None


def test_newer_ollama_tells_capabilities_in_its_tags():
    (facts,) = decode_ollama_tags(
        b'{"models":[{"name":"m","capabilities":["completion","vision","thinking"],"details":{"context_length":8192}}]}'
    )

    assert (facts.vision, facts.tools, facts.embeddings, facts.context_length) == (True, False, None, 8192)
    assert facts.thinking


@pytest.mark.parametrize("answer", [b'{"data":[]}', b'{"data":null}'])
def test_no_models_is_an_answer(answer):
    assert decode_openai_models(answer) == ()


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>", b"[]", b"null", b'{"models":[]}', b'{"data":{}}', b'{"data":[1,{"id":7}]}', b"[" * 100_000],
)
def test_nonsense_is_a_value_error(answer):
    with pytest.raises(ValueError, match=r"\w"):
        decode_openai_models(answer)


def test_one_odd_row_does_not_hide_the_others():
    facts = decode_openai_models(b'{"data":[null,{"id":""},{"id":"m","created":"soon","max_model_len":-1}]}')

    assert [(f.name, f.created, f.context_length) for f in facts] == [("m", 0, None)]


def test_ollama_shows_which_models_it_forwards():
    listed = decode_ollama_tags(
        b'{"models":[{"name":"a","remote_host":"https://ollama.com:443","remote_model":"gpt-oss:120b"},'
        b'{"name":"b","remote_model":"glm-4.6"},{"name":"c"},{"name":"d","remote_host":"","remote_model":""}]}'
    )

    assert [facts.zone for facts in listed] == ["open", "open", None, None]


@pytest.mark.parametrize(
    ("told", "context_length"),
    [
        ({"meta": {"n_ctx": 4096, "n_ctx_train": 131072}}, 4096),
        ({"meta": {"n_ctx_train": 131072}}, None),
        ({"meta": None}, None),
        ({"status": {"value": "loaded"}, "meta": {"n_ctx": 4096}}, 4096),
        ({"status": {"value": "loaded", "args": ["llama-server", "-c", "1024", "--ctx-size", "2048"]}}, 2048),
        ({"status": {"value": "sleeping", "args": ["--ctx-size", "2048"]}}, 2048),
        ({"status": {"value": "loaded", "args": ["--ctx-size", "0"]}}, None),
        ({"status": {"value": "loaded", "args": ["--ctx-size", "9" * 5000]}}, None),
        ({"status": {"value": "loaded", "args": ["--ctx-size", "auto", 7, None]}}, None),
        ({"status": {"value": "loaded", "args": ["--ctx-size"]}}, None),
        ({"status": {"value": "unloaded", "args": ["--ctx-size", "2048"]}, "meta": {"n_ctx": 4096}}, None),
        ({"status": {"value": "loading", "args": ["--ctx-size", "2048"]}}, None),
    ],
)
def test_llamacpp_tells_the_context_that_it_has_allocated(told, context_length):
    (facts,) = decode_openai_models(listing({"id": "m", **told}))

    assert facts.context_length == context_length


def test_what_llamacpp_s_router_says_of_a_model_that_is_not_loaded_excludes_nothing():
    row = {"id": "m", "status": {"value": "unloaded"}, "architecture": {"input_modalities": ["text"]}}

    (facts,) = decode_openai_models(listing(row))

    assert facts.vision is None


@pytest.mark.parametrize(
    ("aliases", "expected"), [(["b", "a"], ("b", "a")), ([], ()), (None, ()), ("a", ()), (["a", 7, None], ("a",))]
)
def test_aliases_are_read_in_their_order(aliases, expected):
    (facts,) = decode_openai_models(listing({"id": "m", "aliases": aliases}))

    assert facts.aliases == expected


@pytest.mark.parametrize("parent", ["base", "/models/base"])
def test_a_lora_has_the_context_of_its_base_model(parent):
    facts = decode_openai_models(
        listing(
            {"id": "base", "root": "/models/base", "parent": None, "max_model_len": 4096},
            {"id": "lora", "root": "/loras/a", "parent": parent, "max_model_len": None},
            {"id": "stray", "parent": "elsewhere"},
            {"id": "own", "parent": "base", "max_model_len": 1024},
        )
    )

    assert [(f.name, f.context_length) for f in facts] == [
        ("base", 4096),
        ("lora", 4096),
        ("stray", None),
        ("own", 1024),
    ]


@pytest.mark.parametrize(
    ("rows", "has_one_model"),
    [
        ([{"id": "a"}], True),
        ([{"id": "a"}, {"id": "b"}], False),
        ([{"id": "a", "status": {"value": "loaded"}}], False),
        ([], False),
    ],
)
def test_a_llamacpp_with_one_model_is_told_from_a_router(rows, has_one_model):
    assert decode_llamacpp_mode(listing(*rows)) == ServerFacts(has_one_model=has_one_model)
