"""What the HTTP status of a backend says: one row for each status that is certain, and a rule for every other."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class StatusMeaning(StrEnum):
    """What a status says of the request and of the backend that answered with it."""

    ANSWER = "answer"
    CLIENT_FAULT = "client_fault"
    """The request is wrong wherever it is sent: the answer goes to the client."""
    CREDENTIALS = "credentials"
    """The backend refused the key, or the account behind it, before it began to work."""
    BUSY = "busy"
    """The backend takes no more requests for now, and did not begin with this one."""
    NOT_SUPPORTED = "not_supported"
    """The backend cannot do this at all; another one may."""
    FAILED = "failed"
    """The backend failed: another one may answer, and it counts against this one."""

    @property
    def is_refusal(self) -> bool:
        """Whether the backend declined before it began to work, so that asking another one costs nothing."""
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
"""RFC 9110, section 15.5, but for what is said of the connection or of the server (408, 421, 423, 424, 425, 426): there
another server may do better. A 404 that names the model is told apart by its words, not by its status."""


def meaning_of(status: int) -> StatusMeaning:
    """Return what *status* says; an error that is in no table is a failure of the backend."""
    if status < FIRST_ERROR:
        return StatusMeaning.ANSWER
    return CERTAIN.get(status, StatusMeaning.FAILED)
