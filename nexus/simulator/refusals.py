"""The reasons for refusing a request, independent of its protocol."""

from typing import Literal, NamedTuple

Reason = Literal[
    "bad_json",
    "encoded",
    "foreign_host",
    "invalid",
    "load_failed",
    "loading",
    "not_kept",
    "overloaded",
    "rate_limited",
    "too_long",
    "unauthorized",
    "unknown_model",
    "unknown_previous",
    "unsupported",
]


class Lengths(NamedTuple):
    """The length of a request and of the context, in tokens."""

    prompt: int = 5000
    answer: int = 100
    context: int = 4096

    @property
    def total(self) -> int:
        return self.prompt + self.answer


class Refusal(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        reason: Reason,
        *,
        model: str = "",
        detail: str = "",
        lengths: Lengths | None = None,
        is_stream: bool = False,
    ) -> None:
        super().__init__(reason, model, detail)
        self.reason = reason
        self.model = model
        self.detail = detail
        """What was missing or wrong, for the client."""
        self.lengths = lengths or Lengths()
        """For a request that is too long."""
        self.is_stream = is_stream
        """Whether a stream was requested: some servers then send the error as an event."""
