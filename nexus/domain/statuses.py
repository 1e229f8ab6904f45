"""What the HTTP status of a backend means: a table, and a rule for all other statuses."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class StatusMeaning(StrEnum):
    """What a status means for the request and for the backend that sent it."""

    ANSWER = "answer"
    CLIENT_FAULT = "client_fault"
    """The request is wrong on any backend: the answer goes to the client."""
    CREDENTIALS = "credentials"
    """The backend refused the key or the account behind it, before it began to work."""
    BUSY = "busy"
    """The backend accepts no more requests for now, and did not begin to work on this one."""
    NOT_SUPPORTED = "not_supported"
    """The backend does not support this; another one may."""
    FAILED = "failed"
    """The backend failed, which counts against it; another one may answer."""

    @property
    def is_refusal(self) -> bool:
        """Whether the backend declined before it began to work, so that a retry elsewhere costs nothing."""
        return self in _REFUSALS

    @property
    def fails_over(self) -> bool:
        """Whether another backend may answer the same request."""
        return self is not StatusMeaning.ANSWER and self is not StatusMeaning.CLIENT_FAULT


_REFUSALS: Final = frozenset({StatusMeaning.CREDENTIALS, StatusMeaning.BUSY, StatusMeaning.NOT_SUPPORTED})

FIRST_ERROR: Final = 400

CERTAIN: Final[Mapping[int, StatusMeaning]] = {
    **dict.fromkeys(
        (400, 404, 405, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 422, 428, 431, 451),
        StatusMeaning.CLIENT_FAULT,
    ),
    **dict.fromkeys((401, 402, 403, 407), StatusMeaning.CREDENTIALS),
    # RFC 6585, section 4, and the status of Anthropic's overloaded_error.
    **dict.fromkeys((429, 529), StatusMeaning.BUSY),
    501: StatusMeaning.NOT_SUPPORTED,
}
"""RFC 9110, section 15.5, without the statuses about the connection or the server (408, 421, 423, 424, 425, 426), where
another server may do better. A 404 about the model is recognised by its text, not by its status."""


def meaning_of(status: int) -> StatusMeaning:
    """Return what *status* means; an error that is not in the table is a failure of the backend."""
    if status < FIRST_ERROR:
        return StatusMeaning.ANSWER
    return CERTAIN.get(status, StatusMeaning.FAILED)
