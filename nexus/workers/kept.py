"""Keeps the last counts of workers that have ended, so that sums over all workers never decrease."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from nexus import tasks
from nexus.workers.channel import Channel

MAX_LEFT: Final = 64
"""Answers of one topic that may wait to be added up, should many workers end at once."""

Fold = Callable[[Sequence[msgspec.Raw]], msgspec.Raw]
"""Adds up several answers to one question; it runs in a thread."""


class KeptAnswers:
    """The last answer of each worker to each of some topics, and the sum of those that have ended.

    :param folds: by topic.
    """

    def __init__(self, folds: Mapping[str, Fold]) -> None:
        self._folds = folds
        self._last: dict[Channel, dict[str, msgspec.Raw]] = {}
        self._left: dict[str, list[msgspec.Raw]] = {topic: [] for topic in folds}
        """Of ended workers: the sum of most of them, and those that are not part of it yet."""
        self._folding: asyncio.Task[None] | None = None

    def note(self, channel: Channel, topic: str, answer: msgspec.Raw) -> None:
        """Keep an *answer* of the worker at *channel*, which replaces its last one."""
        if channel.is_open and topic in self._folds:
            # A copy, because the answer refers to the whole message.
            self._last.setdefault(channel, {})[topic] = msgspec.Raw(bytes(answer))

    def last(self, channel: Channel, topic: str) -> msgspec.Raw | None:
        """Return the last answer of the worker at *channel*; None: there is none."""
        return self._last.get(channel, {}).get(topic)

    def left(self, topic: str) -> Sequence[msgspec.Raw]:
        """Return the last answers of all workers that have ended."""
        return tuple(self._left.get(topic, ()))

    def end(self, channel: Channel) -> None:
        """Count the worker at *channel* among those that have ended."""
        for topic, answer in self._last.pop(channel, {}).items():
            left = self._left[topic]
            left.append(answer)
            del left[:-MAX_LEFT]
        if self._folding is None and any(len(left) > 1 for left in self._left.values()):
            self._folding = tasks.start(self._fold(), name="add up ended workers")

    async def stop(self) -> None:
        """Stop adding up."""
        if self._folding is not None:
            await tasks.stop(self._folding)

    async def _fold(self) -> None:
        try:
            for topic, left in self._left.items():
                while len(left) > 1:
                    several = tuple(left)
                    left[: len(several)] = [await asyncio.to_thread(self._folds[topic], several)]
        finally:
            self._folding = None
