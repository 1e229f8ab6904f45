"""Counts of the tokens of Anthropic's requests."""

import json

import pytest

from nexus.errors import RequestError
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert, translations
from nexus.translation.quirks import quirks_of
from nexus.translation.token_counts import FILE_TOKENS, IMAGE_TOKENS, MESSAGE_TOKENS, estimated_answer
from nexus.wire.protocols import PROTOCOLS

PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 40_000}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 40_000}}
TOOL = {"name": "get", "description": "gets it", "input_schema": {"type": "object", "properties": {"b": {}, "a": {}}}}
CALL = {"type": "tool_use", "id": "t", "name": "get", "input": {"b": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "found"}, PNG]}
COUNTING = PROTOCOLS["anthropic"].endpoints[1]
BODY = {
    "model": "m",
    "system": "be brief",
    "tools": [TOOL],
    "tool_choice": {"type": "any"},
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [CALL]},
        {"role": "user", "content": [RESULT]},
    ],
}


def estimate(body):
    answer = json.loads(estimated_answer(body, PROTOCOLS["anthropic"].understand(COUNTING, body).prompt_tokens))
    assert answer.keys() == {"input_tokens"}
    return answer["input_tokens"]


def counting(kind, **members):
    target = Target(model="backend's", quirks=quirks_of(kind))
    body = json.dumps({**BODY, **members}).encode()
    return convert("anthropic.count_tokens", "openai.tokenize", body, target, About(model="m", id="1", created=0))


def test_tokens_are_counted_by_tokenizers():
    assert translations()["anthropic.count_tokens"] == ("openai.tokenize",)


def test_vllm_is_asked_for_the_prompt_of_a_chat():
    asked = json.loads(counting("vllm").body)

    assert asked.keys() == {"model", "messages", "tools", "add_generation_prompt"}
    assert asked["model"] == "backend's"
    assert [message["role"] for message in asked["messages"]][:3] == ["system", "user", "assistant"]
    assert asked["tools"][0]["function"]["name"] == "get"


@pytest.mark.parametrize(("kind", "member"), [("sglang", "prompt"), ("llamacpp", "content")])
def test_other_engines_are_asked_for_the_whole_text(kind, member):
    asked = json.loads(counting(kind).body)

    assert asked.keys() == {"model", member}
    for said in ("be brief", "gets it", '"properties"', "hi", '{"b": 1}', "found"):
        assert said in asked[member]


def test_images_are_added_to_what_a_tokenizer_counts():
    answer = counting("vllm").answer(b'{"count":40,"max_model_len":100,"tokens":[1]}')

    assert json.loads(answer) == {"input_tokens": 40 + IMAGE_TOKENS}


def test_what_a_chat_template_adds_is_added_to_a_text():
    answer = counting("llamacpp").answer(b'{"tokens":[1,2,{"id":3,"piece":"a"}]}')

    assert json.loads(answer) == {"input_tokens": 3 + IMAGE_TOKENS + 4 * MESSAGE_TOKENS}


@pytest.mark.parametrize("answer", [b"", b"{}", b'{"tokens":[]}', b'{"count":"a"}', b'{"error":{"message":"no"}}'])
def test_an_answer_without_a_count_is_refused(answer):
    with pytest.raises(ValueError, match="no count"):
        counting("vllm").answer(answer)


def test_an_error_is_one_of_anthropics():
    error = json.loads(counting("vllm").error(404, b'{"error":{"message":"no model"}}', "r"))

    assert error["error"] == {"type": "not_found_error", "message": "no model"}


def test_a_request_that_cannot_be_translated_can_be_estimated():
    file = [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}]}]

    with pytest.raises(RequestError):
        counting("vllm", messages=file)

    assert estimate(json.dumps({**BODY, "messages": file}).encode()) > FILE_TOKENS


def test_an_estimate_counts_text_tools_images_and_files():
    def estimated(**members):
        return estimate(json.dumps({"model": "m", **members}, separators=(",", ":")).encode())

    def asked(*content):
        return [{"role": "user", "content": list(content)}]

    text = {"type": "text", "text": 'four "type":"image" '}

    assert estimated(messages=asked({"type": "text", "text": "x" * 400})) == pytest.approx(100, abs=15)
    assert estimated(messages=[], tools=[{**TOOL, "description": "x" * 400}]) == pytest.approx(130, abs=20)
    assert estimated(messages=asked(PNG, PNG, PDF)) == pytest.approx(2 * IMAGE_TOKENS + FILE_TOKENS, abs=90)
    assert estimated(messages=asked({**RESULT, "content": [PNG]})) == pytest.approx(IMAGE_TOKENS, abs=40)
    assert estimated(messages=asked(text)) < IMAGE_TOKENS


def test_an_estimate_counts_what_a_chat_template_adds_to_each_message():
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}] * 3

    assert estimate(json.dumps({"model": "m", "messages": turns[:1]}).encode()) >= MESSAGE_TOKENS
    assert estimate(json.dumps({"model": "m", "messages": turns}).encode()) >= 6 * MESSAGE_TOKENS
