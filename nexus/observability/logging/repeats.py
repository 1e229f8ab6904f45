"""What is logged again and again: said once in a while, with the number of times in between."""

from typing import Final

WINDOW_S: Final = 10.0


class Repeats:
    """Remembers, by a key of which there are few, when something was said last."""

    __slots__ = ("_said", "_window_s")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._said: dict[str, tuple[float, int]] = {}

    def unsaid(self, key: str, now: float) -> int | None:
        """Return how often it was not said since it was last; None when it is not to be said now either."""
        at, unsaid = self._said.get(key, (None, 0))
        if at is not None and now - at < self._window_s:
            self._said[key] = at, unsaid + 1
            return None
        self._said[key] = now, 0
        return unsaid
