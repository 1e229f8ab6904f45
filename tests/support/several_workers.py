"""Workers of one process: what one asks, the others answer at once, encoded as between processes."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from nexus.workers.channel import Channel
from nexus.workers.peers import Answer, Answers, Peers


class FakePeers(Peers):
    """One of several workers."""

    def __init__(self, name: str, others: "list[FakePeers]") -> None:
        super().__init__(Channel("parent"))
        self.name = name
        self.is_silent = False
        self._all = others
        self._answerers: dict[str, Callable[[msgspec.Raw], Awaitable[object]]] = {}

    def answers(self, topic: str, type_: type[Any], answer: Callable[[Any], Awaitable[object]]) -> None:
        async def decoded(payload: bytes) -> object:
            return await answer(msgspec.msgpack.decode(payload, type=type_))

        self._answerers[topic] = decoded

    async def ask(self, topic: str, payload: object, *, timeout_s: float, is_kept: bool = False) -> Answers:
        question = msgspec.Raw(msgspec.msgpack.encode(payload))
        asked = [each for each in self._all if is_kept or each is not self]
        answers = [
            Answer(each.name, msgspec.Raw(msgspec.msgpack.encode(await each._answerers[topic](question))))
            for each in asked
            if not each.is_silent
        ]
        return Answers(self.name, tuple(answers), tuple(each.name for each in asked if each.is_silent))


def several_workers(count: int) -> list[FakePeers]:
    """Return *count* workers, whose names are their numbers."""
    workers: list[FakePeers] = []
    workers += (FakePeers(str(number), workers) for number in range(1, count + 1))
    return workers
