"""Embeddings between OpenAI's dialect and Ollama's, as the libraries of both ask for them and read them."""

import json
import math
from base64 import b64encode
from struct import pack

import ollama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ollama._types import EmbeddingsRequest, EmbedRequest
from openai.types import CreateEmbeddingResponse

from nexus.errors import RequestError
from nexus.translation.conversion import About
from nexus.translation.dialect import Target
from nexus.translation.dialects import convert, translations
from nexus.translation.embeddings.vectors import as_base64, as_list

OPENAI, OLLAMA, OLD = "openai.embeddings", "ollama.embed", "ollama.embeddings"
ABOUT = About(model="client's", id="r1", created=1_700_000_000, prompt_tokens=7)


def converted(client, backend, body):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return convert(client, backend, content, Target(model="backend's"), ABOUT)


def refusal(client, backend, body):
    with pytest.raises(RequestError) as raised:
        converted(client, backend, body)
    return raised.value


class TestOpenAIClient:
    def test_texts_keep_their_bytes(self):
        body = b'{"model":"m", "input": ["a",\n "\\u00e9"], "dimensions": 2, "encoding_format": "base64"}'

        conversion = converted(OPENAI, OLLAMA, body)

        assert conversion.body == b'{"model":"backend\'s","input":["a",\n "\\u00e9"],"dimensions":2}'
        assert conversion.lost == ()

    def test_lists_keep_their_bytes(self):
        conversion = converted(OPENAI, OLLAMA, {"input": "a", "encoding_format": "float"})

        answer = conversion.answer(b'{"model":"x","embeddings":[[0.10, -1e-3],[2]],"prompt_eval_count":5}')

        assert b'"embedding":[0.10, -1e-3]' in answer
        read = CreateEmbeddingResponse.model_validate_json(answer)
        assert [(row.index, row.embedding) for row in read.data] == [(0, [0.1, -0.001]), (1, [2])]
        assert (read.model, read.usage.prompt_tokens, read.usage.total_tokens) == ("client's", 5, 5)

    def test_base64_is_what_openais_library_asks_for_by_default(self):
        conversion = converted(OPENAI, OLLAMA, {"input": "a", "encoding_format": "base64"})

        answer = json.loads(conversion.answer(b'{"embeddings":[[0.5,-1.0]]}'))

        assert answer["data"][0]["embedding"] == b64encode(pack("<2f", 0.5, -1.0)).decode()

    def test_a_prompt_that_ollama_did_not_count_is_estimated(self):
        answer = json.loads(converted(OPENAI, OLLAMA, {"input": "a"}).answer(b'{"embeddings":[[1]]}'))

        assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}

    @pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]], {"text": "a"}, [{"text": "a"}]])
    def test_tokens_are_not_translated(self, tokens):
        error = refusal(OPENAI, OLLAMA, {"input": tokens})

        assert (error.code, error.param) == ("not_translatable", "input")

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({}, "input"),
            ({"input": None}, "input"),
            ({"input": ""}, "input"),
            ({"input": []}, "input"),
            ({"input": "a", "dimensions": "2"}, "dimensions"),
            ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ],
    )
    def test_what_openai_refuses_is_refused(self, body, param):
        error = refusal(OPENAI, OLLAMA, body)

        assert (error.code, error.param) == ("invalid_value", param)

    def test_what_ollama_has_no_place_for_is_listed(self):
        assert converted(OPENAI, OLLAMA, {"input": "a", "user": "u", "input_type": "query", "x": None}).lost == (
            "input_type",
            "user",
        )

    def test_an_error_of_ollama_is_one_of_openai(self):
        body = converted(OPENAI, OLLAMA, {"input": "a"}).error(404, b'{"error":"model not found"}', "id")

        assert json.loads(body)["error"]["message"] == "model not found"

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"embeddings":[]}', b'{"error":"no"}', b'{"embeddings":[null]}'])
    def test_what_is_no_answer_of_ollama_is_refused(self, body):
        with pytest.raises(ValueError, match="the backend's answer has"):
            converted(OPENAI, OLLAMA, {"input": "a"}).answer(body)


class TestOllamaClient:
    def test_what_ollamas_library_sends_is_read(self):
        sent = EmbedRequest(
            model="m", input=["a", "b"], truncate=True, options={"num_ctx": 9}, dimensions=2, keep_alive="5m"
        )

        conversion = converted(OLLAMA, OPENAI, sent.model_dump(exclude_none=True))

        assert json.loads(conversion.body) == {"model": "backend's", "input": ["a", "b"], "dimensions": 2}
        assert conversion.lost == ("keep_alive", "options.num_ctx", "truncate")

    def test_what_ollamas_older_call_sends_is_read(self):
        sent = EmbeddingsRequest(model="m", prompt="a", options={"num_ctx": 9})

        conversion = converted(OLD, OPENAI, sent.model_dump(exclude_none=True))

        assert json.loads(conversion.body) == {"model": "backend's", "input": "a"}
        assert conversion.lost == ("options.num_ctx",)

    def test_ollamas_library_reads_the_answer_in_the_order_of_the_texts(self):
        rows = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
        body = json.dumps({"object": "list", "data": rows, "usage": {"prompt_tokens": 5, "total_tokens": 5}}).encode()

        answer = converted(OLLAMA, OPENAI, {"input": ["a", "b"]}).answer(body)

        read = ollama.EmbedResponse.model_validate_json(answer)
        assert (read.embeddings, read.model, read.prompt_eval_count) == ([[1.0], [2.0]], "client's", 5)

    def test_ollamas_library_reads_the_older_answer(self):
        answer = converted(OLD, OPENAI, {"prompt": "a"}).answer(b'{"data":[{"embedding":[0.10]}]}')

        assert answer == b'{"embedding":[0.10]}'
        assert ollama.EmbeddingsResponse.model_validate_json(answer).embedding == [0.1]

    def test_base64_that_was_not_asked_for_is_read(self):
        body = json.dumps({"data": [{"embedding": b64encode(pack("<2f", 0.5, -1.0)).decode()}]}).encode()

        answer = json.loads(converted(OLLAMA, OPENAI, {"input": "a"}).answer(body))

        assert answer["embeddings"] == [[0.5, -1.0]]

    @pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": None}, {"input": []}])
    def test_loading_a_model_is_not_translated(self, body):
        assert refusal(OLLAMA, OPENAI, body).code == "not_translatable"

    def test_loading_a_model_by_the_older_call_is_not_translated(self):
        assert refusal(OLD, OPENAI, {"prompt": "", "keep_alive": 0}).code == "not_translatable"

    @pytest.mark.parametrize(
        "body",
        [b"{}", b'{"data":[]}', b'{"data":[{"embedding":"?"}]}', b'{"data":[{"embedding":1}]}', b'{"data":[{}]}'],
    )
    def test_what_is_no_answer_of_openai_is_refused(self, body):
        with pytest.raises(ValueError, match="the backend's answer has"):
            converted(OLLAMA, OPENAI, {"input": "a"}).answer(body)


def test_embeddings_are_translated_between_the_two_dialects_only():
    found = translations()

    assert {name: found[name] for name in (OPENAI, OLLAMA, OLD)} == {
        OPENAI: (OLLAMA,),
        OLLAMA: (OPENAI,),
        OLD: (OPENAI,),
    }
    assert translations(["ollama->openai"]).get(OLD) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=9))
def test_a_vector_is_the_same_in_base64(numbers):
    vector = json.dumps(numbers).encode()

    assert json.loads(as_list(as_base64(vector))) == numbers


def test_a_number_that_is_too_large_for_32_bits_is_infinite_as_it_is_elsewhere():
    assert as_base64(b"[1e300]") == b'"%b"' % b64encode(pack("<f", math.inf))
