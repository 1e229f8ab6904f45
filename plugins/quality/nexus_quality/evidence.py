"""What one attempt says of the backend that was asked: much of what goes wrong is not its doing."""

from typing import Final

from nexus.api import AttemptOutcome, BackendKind, Ending, UpstreamFault

LONGEST_S: Final = 86_400.0
"""A longer time to first token was not measured but made up."""

FIRST_ERROR: Final = 400
INTERNAL_ERROR: Final = 500
"""The first of those that are the server's doing."""
_NO_FAILURE: Final = frozenset({501, 505, 529})
"""What a server cannot do, or that it is overloaded (529, as Anthropic says it): it is not broken."""


def has_failed(attempt: AttemptOutcome, kind: BackendKind) -> bool | None:
    """Say whether a backend of *kind* failed at *attempt*; None when that says nothing of it.

    No 4xx says anything: it is about the request, the key or the load. Nor does an attempt that ended because of the
    client, the deadline of the whole exchange, a shutdown or another stage.
    """
    if attempt.ending not in (Ending.FINISHED, Ending.BACKEND_FAILED) or attempt.fault == UpstreamFault.STALE:
        return None
    status = attempt.status
    if status is not None and status >= FIRST_ERROR:
        return True if _is_of_the_server(status, kind) else None
    # With a status below 400 it broke off; without any, it did not answer at all.
    if attempt.ending is Ending.BACKEND_FAILED:
        return True
    return None if status is None else False


def first_token_ms(attempt: AttemptOutcome) -> int | None:
    """Return the time to first token; None when there was none, and of a stream that broke off: a failure must not look
    fast. An answer in one piece begins when it ends.
    """
    seconds = attempt.first_byte_s
    if attempt.ending is Ending.BACKEND_FAILED or (attempt.status or 0) >= FIRST_ERROR:
        return None
    if not attempt.is_stream or seconds is None or not 0 <= seconds <= LONGEST_S:
        return None
    return round(seconds * 1000)


def _is_of_the_server(status: int, kind: BackendKind) -> bool:
    if status == INTERNAL_ERROR and kind.has_unreliable_500:
        # Some engines answer so to requests that they do not like.
        return False
    return status >= INTERNAL_ERROR and status not in _NO_FAILURE
