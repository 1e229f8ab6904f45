"""Every error code says what follows from it, and every fault becomes a code."""

import pytest

from nexus.domain.outcome import Ending
from nexus.error_codes import CODE_OF_BACKEND_STATUS, CODES, CODES_OF_FAULT, IN_STREAM_CODES, REPLY_CODES, UpstreamFault


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("internal_error", Ending.NEXUS_FAILED),
        ("deadline_exceeded", Ending.TIMED_OUT),
        ("queue_timeout", Ending.TIMED_OUT),
        ("bad_gateway", Ending.BACKEND_FAILED),
        ("backend_unavailable", Ending.BACKEND_FAILED),
        ("upstream_rate_limited", Ending.BACKEND_FAILED),
        ("ttft_timeout", Ending.BACKEND_FAILED),
        ("stream_stalled", Ending.BACKEND_FAILED),
        ("invalid_json", Ending.BAD_REQUEST),
        ("too_large", Ending.BAD_REQUEST),
        ("model_not_found", Ending.REJECTED),
        ("no_healthy_backend", Ending.REJECTED),
        ("queue_full", Ending.REJECTED),
        ("draining", Ending.SHUT_DOWN),
        ("server_shutdown", Ending.SHUT_DOWN),
    ],
)
def test_each_code_says_what_caused_it(code, ending):
    assert Ending(CODES[code].ending) is ending


def test_codes_cover_every_ending_but_those_without_an_error():
    assert {Ending(row.ending) for row in CODES.values()} == {
        Ending.NEXUS_FAILED,
        Ending.TIMED_OUT,
        Ending.BACKEND_FAILED,
        Ending.BAD_REQUEST,
        Ending.REJECTED,
        Ending.SHUT_DOWN,
    }


def test_every_code_is_of_a_reply_or_of_a_stream():
    assert CODES.keys() == REPLY_CODES | IN_STREAM_CODES


def test_a_fault_of_the_proxy_or_the_client_is_below_or_above_500():
    wrong = [code for code in REPLY_CODES if CODES[code].ending == "bad_request" and CODES[code].status >= 500]

    assert wrong == []


def test_every_fault_has_a_code_for_the_client():
    assert CODES_OF_FAULT.keys() == set(UpstreamFault)
    assert {codes.before for codes in CODES_OF_FAULT.values()} <= REPLY_CODES
    assert {codes.in_stream for codes in CODES_OF_FAULT.values()} <= IN_STREAM_CODES
    assert {*CODE_OF_BACKEND_STATUS.values()} <= REPLY_CODES
