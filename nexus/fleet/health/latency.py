"""Records how fast an attempt was answered; a failure never makes a backend look faster."""

from nexus.domain.backend import BackendLoad
from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.domain.statuses import FIRST_ERROR, meaning_of


def observe_attempt(
    load: BackendLoad, outcome: AttemptOutcome, *, is_good: bool, is_bad: bool = False, now: float
) -> bool:
    """Record how one attempt went and return whether it is the first of its model.

    :param is_good: whether the backend succeeded; only successes move its average latency.
    :param is_bad: whether the attempt counts as a failure of the backend, however it ended.
    :param now: monotonic seconds.
    """
    if not outcome.model:
        # Requests without a model, such as those for files, are not comparable.
        return False
    before, has_failed = len(load.models), is_bad or _has_failed(outcome)
    model = load.model(outcome.model)
    model.used_at = now
    if is_good:
        model.progressed_at = now
        model.tries = 0
        latency_s = outcome.duration_s if outcome.first_byte_s is None else outcome.first_byte_s
        load.observe_request(round(latency_s * 1000))
    if outcome.is_stream:
        is_error = outcome.fault is not None or (outcome.status or 0) >= FIRST_ERROR
        if outcome.first_byte_s is not None and not is_error and not has_failed:
            # The time to the first token is valid however the stream ended.
            model.first_token.observe(outcome.first_byte_s, now)
    elif is_good:
        model.whole.observe(outcome.duration_s, now, outcome.max_tokens)
    if has_failed:
        model.fail(now)
    return len(load.models) > before


def _has_failed(outcome: AttemptOutcome) -> bool:
    """Return whether it failed, and not because of the client, the request or the request's own deadline."""
    if outcome.ending is Ending.BACKEND_FAILED:
        return True
    return outcome.ending is Ending.FINISHED and outcome.status is not None and meaning_of(outcome.status).fails_over
