"""How long a request will wait, and the errors that say so."""

from typing import Any, Final

import msgspec

from nexus.errors import RequestError

MAX_RETRY_AFTER_S: Final = 60
"""Client libraries, those of OpenAI and Anthropic among them, wait for no longer, and ignore a longer Retry-After."""


class Forecast(msgspec.Struct, frozen=True):
    """What can be said of a request that waits, or would have to."""

    ahead: int
    """About how many requests are served before it."""
    expected_s: float
    """How long that takes, at the rate at which its backends have taken requests lately."""
    is_measured: bool
    """Whether that rate was measured, at least in part."""

    @property
    def retry_after_s(self) -> int:
        return max(1, min(MAX_RETRY_AFTER_S, round(self.expected_s)))

    def text(self) -> str:
        """Return it in words."""
        assumed = "" if self.is_measured else ", if each backend takes one per second"
        return f"{_come(self.ahead)} before it, and it would wait for about {self.expected_s:.2g} s{assumed}"

    def facts(self) -> dict[str, Any]:
        """Return it as part of an error's context."""
        return {
            "position": self.ahead + 1,
            "expected_wait_s": round(self.expected_s, 3),
            "is_measured": self.is_measured,
        }


def queue_full(reason: str, forecast: Forecast, *, waiting: int) -> RequestError:
    """Return the error for a request for which the queue has no room.

    :param waiting: how many requests wait.
    """
    return RequestError(
        "queue_full",
        f"every backend is at its limit and {reason}; {forecast.text()}",
        context={"queue": {"waiting": waiting, **forecast.facts()}},
        retry_after_s=forecast.retry_after_s,
    )


def queue_timeout(waited_s: float, limit: str, forecast: Forecast, *, waiting: int) -> RequestError:
    """Return the error for a request that has waited for as long as it may.

    :param limit: the key or the header that limits the wait.
    """
    return RequestError(
        "queue_timeout",
        f"no slot became free within {waited_s:g} s ({limit}); {forecast.text()}",
        context={"queue": {"waiting": waiting, **forecast.facts(), "waited_s": waited_s, "limited_by": limit}},
        retry_after_s=forecast.retry_after_s,
    )


def _come(count: int) -> str:
    if not count:
        return "no request comes"
    return "about 1 request comes" if count == 1 else f"about {count} requests come"
