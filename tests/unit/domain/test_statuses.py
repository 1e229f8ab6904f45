"""Each status of a backend has one meaning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.domain.statuses import CERTAIN, StatusMeaning, meaning_of


@pytest.mark.parametrize("status", [400, 404, 405, 409, 411, 412, 413, 414, 415, 422, 451])
def test_the_clients_own_fault_goes_to_the_client(status):
    assert not meaning_of(status).fails_over


@pytest.mark.parametrize("status", [408, 421, 423, 425, 499, 500, 502, 503, 504, 507, 508, 520, 525, 530, 599])
def test_a_failure_is_tried_elsewhere_and_is_no_refusal(status):
    meaning = meaning_of(status)

    assert (meaning, meaning.fails_over, meaning.is_refusal) == (StatusMeaning.FAILED, True, False)


@pytest.mark.parametrize("status", [401, 402, 403, 407, 429, 501, 529])
def test_a_refusal_is_tried_elsewhere_at_no_cost(status):
    meaning = meaning_of(status)

    assert (meaning.fails_over, meaning.is_refusal) == (True, True)


@given(st.integers(200, 599))
def test_a_status_that_is_not_certain_is_an_answer_or_a_failure(status):
    meaning = meaning_of(status)

    if status < 400:
        assert meaning is StatusMeaning.ANSWER
    elif status not in CERTAIN:
        assert meaning is StatusMeaning.FAILED
