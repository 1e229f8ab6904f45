"""Long lists of numbers are cut out of answers before these are read, and nothing else is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.request import TokenUsage
from nexus.wire.documents import LONG_BYTES, without_numbers
from nexus.wire.openai.usage import usage_of
from nexus.wire.responses.nature import error_in

LONG = [number / 7 for number in range(2000)]
USAGE = {"prompt_tokens": 9, "total_tokens": 9}


def test_long_lists_of_numbers_become_empty():
    data = [{"index": 0, "embedding": LONG}, {"index": 1, "embedding": [1.5, 2]}, {"index": 2, "embedding": LONG}]
    document = {"object": "list", "data": data, "usage": USAGE}

    left = json.loads(without_numbers(json.dumps(document).encode()))

    assert left["usage"] == USAGE
    assert [len(item["embedding"]) for item in left["data"]] == [0, 2, 0]


@pytest.mark.parametrize("document", [[], {}, LONG[:9], ["a" * 9000], {"a": "word " * 9000}, [[1], [2]] * 5000])
def test_other_documents_stay(document):
    raw = json.dumps(document).encode()

    assert json.loads(without_numbers(raw)) == document


VALUES = st.recursive(
    st.sampled_from([1, None, True, "", "a [", "] b", "x" * 5000, LONG, {}]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("ab["), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_valid_documents_stay_valid(value):
    json.loads(without_numbers(json.dumps(value).encode()))


def test_a_long_answer_says_the_same_without_its_numbers():
    answer = json.dumps({"data": [{"embedding": LONG}] * 3, "usage": USAGE}).encode()
    error = json.dumps({"error": {"message": "no", "code": 503}, "numbers": LONG * 3}).encode()

    assert min(len(answer), len(error)) > LONG_BYTES
    assert usage_of(answer) == TokenUsage(9)
    assert error_in(answer) is None
    assert error_in(error) == 503
