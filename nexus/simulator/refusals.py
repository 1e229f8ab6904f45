"""Why a simulator says no, before any protocol has put it into words."""

from typing import Literal

Reason = Literal[
    "bad_json", "encoded", "foreign_host", "invalid", "overloaded", "unauthorized", "unknown_model", "unsupported"
]


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(self, reason: Reason, *, model: str = "", detail: str = "") -> None:
        super().__init__(reason, model, detail)
        self.reason = reason
        self.model = model
        self.detail = detail
        """What was missing or wrong, in words for the client."""
