"""The result of an exchange depends on how it ended, not on its first status."""

import pytest

from nexus.domain.outcome import Ending, Result
from nexus.testing.builders import make_attempt, make_outcome

SENT = (make_attempt(),)


@pytest.mark.parametrize(
    ("attempts", "ending", "status", "code", "result", "is_failure"),
    [
        (SENT, Ending.FINISHED, 200, None, Result.FINISHED, False),
        (SENT, Ending.FINISHED, 304, None, Result.FINISHED, False),
        (SENT, Ending.FINISHED, 400, None, Result.FAILED, False),
        (SENT, Ending.FINISHED, 500, None, Result.FAILED, True),
        (SENT, Ending.BACKEND_FAILED, 502, "bad_gateway", Result.FAILED, True),
        (SENT, Ending.BACKEND_FAILED, 429, "upstream_rate_limited", Result.FAILED, False),
        (SENT, Ending.BACKEND_FAILED, 200, "stream_truncated", Result.TRUNCATED, True),
        (SENT, Ending.BACKEND_FAILED, 200, "event_too_large", Result.TRUNCATED, True),
        (SENT, Ending.BACKEND_FAILED, 200, "stream_stalled", Result.STALLED, True),
        (SENT, Ending.BACKEND_FAILED, 200, "upstream_error", Result.FAILED, True),
        (SENT, Ending.TIMED_OUT, 200, "deadline_exceeded", Result.TRUNCATED, True),
        (SENT, Ending.TIMED_OUT, 504, "deadline_exceeded", Result.FAILED, True),
        ((), Ending.TIMED_OUT, 503, "queue_timeout", Result.REJECTED, True),
        (SENT, Ending.NEXUS_FAILED, 200, "internal_error", Result.TRUNCATED, True),
        ((), Ending.NEXUS_FAILED, 500, "internal_error", Result.FAILED, True),
        ((), Ending.CLIENT_LEFT, 499, None, Result.CLIENT_LEFT, False),
        (SENT, Ending.CLIENT_LEFT, 200, None, Result.CLIENT_LEFT, False),
        (SENT, Ending.CLIENT_STALLED, 200, None, Result.CLIENT_LEFT, False),
        ((), Ending.REJECTED, 503, "rejected_by_policy", Result.REJECTED, True),
        ((), Ending.REJECTED, 404, "model_not_found", Result.REJECTED, False),
        ((), Ending.BAD_REQUEST, 400, "invalid_json", Result.REJECTED, False),
        (SENT, Ending.SHUT_DOWN, 200, "server_shutdown", Result.SHUT_DOWN, True),
    ],
)
def test_the_result_is_how_it_ended(attempts, ending, status, code, result, is_failure):
    outcome = make_outcome(*attempts, ending=ending, status=status, code=code)

    assert (outcome.result, outcome.is_failure) == (result, is_failure)
