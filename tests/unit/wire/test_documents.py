"""Vectors are cut out of long answers before these are read, and nothing else is."""

import base64
import json
from time import thread_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.request import TokenUsage
from nexus.wire.documents import LONG_BYTES, without_vectors
from nexus.wire.openai.usage import usage_of
from nexus.wire.responses.nature import error_in

LONG = [number / 7 for number in range(2000)]
USAGE = {"prompt_tokens": 9, "total_tokens": 9}


ENCODED = base64.b64encode(bytes(range(256)) * 48).decode()


@pytest.mark.parametrize(("vector", "left_of_it"), [(LONG, [0]), (ENCODED, "0")])
def test_of_long_vectors_a_zero_stays(vector, left_of_it):
    data = [{"index": 0, "embedding": vector}, {"index": 1, "embedding": [1.5, 2]}, {"index": 2, "embedding": vector}]
    document = {"object": "list", "data": data, "usage": USAGE}

    left = json.loads(without_vectors(json.dumps(document).encode()))

    assert left["usage"] == USAGE
    assert [item["embedding"] for item in left["data"]] == [left_of_it, [1.5, 2], left_of_it]


@pytest.mark.parametrize("document", [[], {}, LONG[:9], {"a": "word " * 9000}, [[1], [2]] * 5000, ["\\" * 4095 + '"']])
def test_other_documents_stay(document):
    raw = json.dumps(document).encode()

    assert json.loads(without_vectors(raw)) == document


STRINGS = ["", "a [", "] b", '"', "x" * 5000, "x" * 5000 + '"', '"' + "," * 5000, "\\" * 2500, ENCODED]
VALUES = st.recursive(
    st.sampled_from([1, None, True, *STRINGS, LONG, {}]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("ab["), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_valid_documents_stay_valid(value):
    json.loads(without_vectors(json.dumps(value).encode()))


@pytest.mark.parametrize("filling", [b" ", b"1,", b"a", b"[1],", b"[", b"]"])
def test_a_document_is_searched_in_linear_time(filling):
    document = b'{"data":["' + filling * 500_000

    began = thread_time()
    without_vectors(document)

    assert thread_time() - began < 1


@pytest.mark.parametrize("vector", [LONG, ENCODED])
def test_a_long_answer_says_the_same_without_its_vectors(vector):
    answer = json.dumps({"data": [{"embedding": vector}] * 3, "usage": USAGE}).encode()
    error = json.dumps({"error": {"message": "no", "code": 503}, "numbers": LONG * 3}).encode()

    assert min(len(answer), len(error)) > LONG_BYTES
    assert usage_of(answer) == TokenUsage(9)
    assert error_in(answer) is None
    assert error_in(error) == 503
