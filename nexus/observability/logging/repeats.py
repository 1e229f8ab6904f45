"""Limits repeated log events to one per interval, with the number of suppressed ones."""

from typing import Final

WINDOW_S: Final = 10.0


class Repeats:
    """The time of the last log line, and the suppressed ones since, of each of a few keys."""

    __slots__ = ("_said", "_window_s")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._said: dict[str, tuple[float, int]] = {}

    def unsaid(self, key: str, now: float) -> int | None:
        """Return how many lines were suppressed before this one; None to suppress this one too."""
        at, unsaid = self._said.get(key, (None, 0))
        if at is not None and now - at < self._window_s:
            self._said[key] = at, unsaid + 1
            return None
        self._said[key] = now, 0
        return unsaid
