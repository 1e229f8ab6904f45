"""What one attempt proves about its backend: many failures are not the backend's fault."""

from typing import Final

from nexus.api import AttemptOutcome, BackendKind, Ending, UpstreamFault

MAX_FIRST_TOKEN_S: Final = 86_400.0
"""A longer time to first token is not plausible."""

FIRST_ERROR: Final = 400
INTERNAL_ERROR: Final = 500
"""The first status that blames the server."""
_NO_FAILURE: Final = frozenset({501, 505, 529})
"""Statuses of a server that lacks a feature, or is overloaded (529, as Anthropic says it): it is not broken."""


def has_failed(attempt: AttemptOutcome, kind: BackendKind) -> bool | None:
    """Return whether a backend of *kind* failed at *attempt*; None if the attempt proves nothing.

    A 4xx proves nothing: it is about the request, the key or the load. Neither does an attempt that ended because of
    the client, the deadline of the whole exchange, a shutdown or another stage.
    """
    if attempt.ending not in (Ending.FINISHED, Ending.BACKEND_FAILED) or attempt.fault == UpstreamFault.STALE:
        return None
    status = attempt.status
    if status is not None and status >= FIRST_ERROR:
        return True if _is_of_the_server(status, kind) else None
    # With a status below 400, the answer broke off; without a status, there was none.
    if attempt.ending is Ending.BACKEND_FAILED:
        return True
    return None if status is None else False


def first_token_ms(attempt: AttemptOutcome) -> int | None:
    """Return the time to first token of a stream; None if there was none.

    A stream that broke off has none, since a failure must not look fast.
    """
    seconds = attempt.first_byte_s
    if attempt.ending is Ending.BACKEND_FAILED or (attempt.status or 0) >= FIRST_ERROR:
        return None
    if not attempt.is_stream or seconds is None or not 0 <= seconds <= MAX_FIRST_TOKEN_S:
        return None
    return round(seconds * 1000)


def _is_of_the_server(status: int, kind: BackendKind) -> bool:
    if status == INTERNAL_ERROR and kind.has_unreliable_500:
        # Some engines answer bad requests with 500.
        return False
    return status >= INTERNAL_ERROR and status not in _NO_FAILURE
