"""What all workers together have for one page: each gives its part, and the one that was asked merges them."""

from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

import msgspec

from nexus.workers.channel import ChannelError
from nexus.workers.peers import Answer, Answers, Peers

ANSWER_S: Final = 0.25
"""How long other workers may take."""
WORKERS_HEADER: Final = "X-Nexus-Workers"

Q = TypeVar("Q")
P = TypeVar("P")


class Parts(msgspec.Struct, Generic[P], frozen=True):
    """The parts of one page."""

    own: P
    name: str = ""
    """The number of this worker; empty without others."""
    others: Mapping[str, P] = {}
    """Of the workers that have answered, by their numbers."""
    past: tuple[P, ...] = ()
    """Of kept parts: the last of workers that are silent or have ended."""
    silent: tuple[str, ...] = ()
    """The numbers of those that did not answer in time."""

    @property
    def present(self) -> tuple[P, ...]:
        """The parts of all that have answered, its own first."""
        return (self.own, *self.others.values())

    @property
    def by_worker(self) -> Mapping[str, P]:
        return dict(sorted({self.name: self.own, **self.others}.items()))

    @property
    def headers(self) -> Mapping[str, str]:
        return _headers(1 + len(self.others), self.silent) if self.name else {}


class Asking(Generic[Q, P]):
    """Asks all workers for their parts of one page.

    :param peers: the other workers; None: there are none.
    :param own: returns the part of this worker.
    :param is_kept: see :meth:`Peers.ask`.
    """

    def __init__(  # noqa: PLR0913 - what a question consists of
        self,
        peers: Peers | None,
        topic: str,
        question: type[Q],
        part: type[P],
        own: Callable[[Q], P],
        *,
        is_kept: bool = False,
    ) -> None:
        self._peers = peers
        self._topic = topic
        self._decode = msgspec.msgpack.Decoder(part).decode
        self._own = own
        self._is_kept = is_kept
        if peers is not None:
            peers.answers(topic, question, self._answer)

    async def __call__(self, question: Q) -> Parts[P]:
        """Return the parts; those of others as far as they answer in time."""
        if self._peers is None:
            return Parts(self._own(question))
        try:
            found = await self._peers.ask(self._topic, question, timeout_s=ANSWER_S, is_kept=self._is_kept)
        except ChannelError:
            return Parts(self._own(question))
        present = {each.worker: self._decoded(each) for each in found.answers if each.is_current}
        # If parts are kept, what the parent knows is shown, so that it never decreases.
        own = present.pop(found.asker, None)
        return Parts(
            self._own(question) if own is None else own,
            found.asker,
            present,
            tuple(self._decoded(each) for each in found.answers if not each.is_current and each.worker != found.asker),
            tuple(worker for worker in found.silent if worker != found.asker),
        )

    def _decoded(self, answer: Answer) -> P:
        return self._decode(answer.payload)

    async def _answer(self, question: Q) -> P:
        return self._own(question)


def headers_of(answers: Answers | None) -> Mapping[str, str]:
    """Return the headers of a page that was made of *answers*."""
    return {} if answers is None else _headers(answers.count, answers.silent)


def _headers(answered: int, silent: tuple[str, ...]) -> Mapping[str, str]:
    missing = f"; silent={','.join(silent)}" if silent else ""
    return {WORKERS_HEADER: f"{answered}/{answered + len(silent)}{missing}"}
