import math

import pytest

from nexus.domain.outcome import Ending
from nexus.error_codes import UpstreamFault
from nexus.fleet.health.evidence import cooling_of, weigh
from nexus.fleet.kinds import LLAMACPP, VLLM


@pytest.mark.parametrize(
    ("fields", "evidence"),
    [
        ({"status": 200}, "good"),
        ({"status": 400}, "none"),
        ({"status": 401}, "none"),
        ({"status": 404}, "none"),
        ({"status": 429}, "none"),
        ({"status": 500}, "bad"),
        ({"status": 501}, "none"),
        ({"status": 502}, "bad"),
        ({"status": 503}, "bad"),
        ({"status": 504}, "bad"),
        ({"ending": Ending.CLIENT_LEFT, "status": 200}, "none"),
        ({"ending": Ending.CLIENT_STALLED, "status": 200}, "none"),
        ({"ending": Ending.SHUT_DOWN}, "none"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.STATUS, "status": 502}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.REFUSED}, "refused"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.CONNECT_TIMEOUT}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.TLS}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.RESET}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.PROTOCOL}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.TRUNCATED, "status": 200}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.FIRST_BYTE_TIMEOUT}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.STALE}, "none"),
        ({"ending": Ending.BACKEND_FAILED, "fault": UpstreamFault.IN_STREAM_ERROR, "status": 200}, "none"),
        ({"ending": Ending.BACKEND_FAILED, "fault": "stream_truncated", "status": 200}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": "stream_stalled", "status": 200}, "bad"),
        ({"ending": Ending.BACKEND_FAILED, "fault": "event_too_large", "status": 200}, "none"),
    ],
)
def test_an_outcome_counts_for_or_against_its_backend(make_outcome, fields, evidence):
    assert weigh(make_outcome(**fields), VLLM, cooling_s=None) is evidence


def test_a_500_of_a_kind_with_unreliable_500s_does_not_count(make_outcome):
    assert weigh(make_outcome(status=500), LLAMACPP, cooling_s=None) == "none"


def test_a_503_with_retry_after_is_no_failure(make_outcome):
    assert weigh(make_outcome(status=503), VLLM, cooling_s=2.0) == "none"


@pytest.mark.parametrize(
    ("status", "retry_after_s", "cooling_s"),
    [
        (429, 5.0, 5.0),
        (503, 5.0, 5.0),
        (503, 0.0, 0.0),
        (429, 4000.0, 300.0),
        (429, None, None),
        (429, -1.0, None),
        (429, math.nan, None),
        (429, math.inf, None),
        (200, 5.0, None),
        (500, 5.0, None),
    ],
)
def test_a_backend_cools_for_as_long_as_it_asks_up_to_a_limit(make_outcome, status, retry_after_s, cooling_s):
    assert cooling_of(make_outcome(status=status), retry_after_s) == cooling_s


@pytest.mark.parametrize("ending", [Ending.CLIENT_LEFT, Ending.TIMED_OUT])
@pytest.mark.parametrize(
    ("silent_s", "is_sent", "evidence"),
    [(12.0, True, "bad"), (8.0, True, "none"), (12.0, False, "none")],
)
def test_giving_up_counts_only_after_a_remarkable_silence(make_outcome, ending, silent_s, is_sent, evidence):
    outcome = make_outcome(ending=ending, silent_s=silent_s, is_sent=is_sent)

    assert weigh(outcome, VLLM, cooling_s=None, patience_s=10.0) is evidence
