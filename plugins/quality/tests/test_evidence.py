"""Which outcomes count for or against a backend, and which prove nothing."""

from math import inf, nan

import msgspec
import pytest

from nexus.api import Ending, UpstreamFault
from nexus.testing.builders import make_backend
from nexus_quality.evidence import first_token_ms, has_failed

KIND = make_backend().kind
UNRELIABLE = msgspec.structs.replace(KIND, has_unreliable_500=True)

FAILED = {"ending": Ending.BACKEND_FAILED}


def test_a_whole_answer_is_good(make_attempt):
    assert has_failed(make_attempt(), KIND) is False


@pytest.mark.parametrize("fault", sorted(set(UpstreamFault) - {UpstreamFault.STALE, UpstreamFault.STATUS}))
def test_an_unreachable_or_broken_off_backend_has_failed(make_attempt, fault):
    assert has_failed(make_attempt(**FAILED, fault=fault.value, status=None), KIND) is True


@pytest.mark.parametrize("code", ["stream_truncated", "stream_stalled", "upstream_error", "event_too_large"])
def test_a_backend_that_breaks_off_an_answer_has_failed(make_attempt, code):
    assert has_failed(make_attempt(**FAILED, fault=code), KIND) is True


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
def test_an_error_of_the_server_is_a_failure(make_attempt, status):
    retried = make_attempt(**FAILED, fault="status", status=status)
    passed_on = make_attempt(status=status)

    assert (has_failed(retried, KIND), has_failed(passed_on, KIND)) == (True, True)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 413, 422, 429, 499, 501, 505, 529])
def test_errors_of_request_key_or_load_prove_nothing(make_attempt, status):
    retried = make_attempt(**FAILED, fault="status", status=status)
    in_a_stream = make_attempt(**FAILED, fault="in_stream_error", status=status)
    passed_on = make_attempt(status=status)

    assert {has_failed(attempt, KIND) for attempt in (retried, in_a_stream, passed_on)} == {None}


def test_a_500_of_an_engine_that_says_so_to_bad_requests_says_nothing(make_attempt):
    attempt = make_attempt(**FAILED, fault="status", status=500)

    assert has_failed(attempt, UNRELIABLE) is None


def test_a_connection_that_had_gone_stale_says_nothing(make_attempt):
    assert has_failed(make_attempt(**FAILED, fault="stale", status=None), KIND) is None


@pytest.mark.parametrize("ending", sorted(set(Ending) - {Ending.FINISHED, Ending.BACKEND_FAILED}))
@pytest.mark.parametrize("status", [None, 200])
def test_an_end_from_elsewhere_proves_nothing_about_the_backend(make_attempt, ending, status):
    assert has_failed(make_attempt(ending=ending, status=status), KIND) is None


def test_the_first_content_of_a_stream_is_its_first_token(make_attempt):
    assert first_token_ms(make_attempt(is_stream=True, first_byte_s=0.25)) == 250


def test_it_counts_though_the_client_left_later(make_attempt):
    assert first_token_ms(make_attempt(ending=Ending.CLIENT_LEFT, is_stream=True, first_byte_s=0.25)) == 250


def test_the_first_byte_of_an_answer_in_one_piece_is_no_first_token(make_attempt):
    assert first_token_ms(make_attempt(is_stream=False, first_byte_s=9.0)) is None


@pytest.mark.parametrize("seconds", [None, -0.1, 90_000.0, inf, nan])
def test_what_cannot_have_been_measured_is_none_either(make_attempt, seconds):
    assert first_token_ms(make_attempt(is_stream=True, first_byte_s=seconds)) is None


def test_a_stream_that_broke_off_does_not_look_fast(make_attempt):
    broken = make_attempt(ending=Ending.BACKEND_FAILED, fault="stream_truncated", is_stream=True, first_byte_s=0.01)

    assert first_token_ms(broken) is None
