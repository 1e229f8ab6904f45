"""Lets workers ask and tell each other: each has a channel to the parent only, which passes on what they send."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from nexus.workers.channel import Channel, ChannelError
from nexus.workers.kept import Fold, KeptAnswers

ASK: Final = "peers.ask"
TELL: Final = "peers.tell"
LEAVE: Final = "peers.leave"
PASSING_S: Final = 1.0
"""How much longer than the other workers the parent may take."""

T = TypeVar("T")


class Forwarded(msgspec.Struct, frozen=True, array_like=True):
    """A message or a question for other workers."""

    topic: str
    payload: msgspec.Raw
    timeout_s: float = 0.0
    """How long each of them may take to answer."""
    is_kept: bool = False
    """Whether the one that asks is asked too, and the parent keeps the answers: see :meth:`Peers.ask`."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What one worker has answered."""

    worker: str
    """Its number; empty for all that have ended."""
    payload: msgspec.Raw
    is_current: bool = True
    """Whether it has answered now; else it is silent or has ended, and this is the last that is known of it."""


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """What the workers have answered."""

    asker: str
    """The number of the worker that has asked."""
    answers: tuple[Answer, ...]
    silent: tuple[str, ...] = ()
    """The numbers of those that failed or did not answer in time."""

    @property
    def count(self) -> int:
        """How many have answered now."""
        return sum(answer.is_current for answer in self.answers)


class Peers:
    """The other workers, by way of the parent; the topics are those of the channel to it.

    :param channel: to the parent, whose end a :class:`Switchboard` serves.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def on(self, topic: str, type_: type[T], receive: Callable[[T], None]) -> None:
        """Call *receive* with each message of *topic*; see :meth:`Channel.on`. Called before this worker serves."""
        self._channel.on(topic, type_, receive)

    def answers(self, topic: str, type_: type[T], answer: Callable[[T], Awaitable[object]]) -> None:
        """Answer each question of *topic*; see :meth:`Channel.answers`. Called before this worker serves."""
        self._channel.answers(topic, type_, answer)

    def tell(self, topic: str, payload: object) -> None:
        """Send a message to all others that serve; nothing if the parent has ended."""
        with suppress(ChannelError):
            self._channel.send(TELL, Forwarded(topic, _packed(payload)))

    async def ask(self, topic: str, payload: object, *, timeout_s: float, is_kept: bool = False) -> Answers:
        """Ask all others that serve, each of which answers by :meth:`answers`.

        :param is_kept: whether this worker is asked too, and what silent and ended workers answered last belongs to the
            answers: for counts, which must not decrease because a worker has ended.
        :raises ChannelError: the parent has ended, or does not answer.
        """
        question = Forwarded(topic, _packed(payload), timeout_s, is_kept)
        return await self._channel.ask(ASK, question, Answers, timeout_s=timeout_s + PASSING_S)

    def leave(self, topic: str, answer: object) -> None:
        """Send the last answer of this worker, which ends, to a topic whose answers are kept."""
        with suppress(ChannelError):
            self._channel.send(LEAVE, Forwarded(topic, _packed(answer)))


class Switchboard:
    """The parent's part: passes on what one worker sends to the others, and keeps the counts of those that have ended.

    :param folds: by topic whose answers are kept, adds several of them up.
    """

    def __init__(self, folds: "dict[str, Fold] | None" = None) -> None:
        self._names: dict[Channel, str] = {}
        self._serving: dict[Channel, None] = {}
        """The channels of the workers that serve."""
        self._kept = KeptAnswers(folds or {})

    def serve(self, channel: Channel, name: str) -> None:
        """Let the worker of that *name* at the other end of *channel*, which is not open yet, use :class:`Peers`."""
        self._names[channel] = name

        async def ask(question: Forwarded) -> Answers:
            return await self._ask(channel, question)

        channel.on(TELL, Forwarded, lambda message: self._tell_others(channel, message))
        channel.on(LEAVE, Forwarded, lambda message: self._kept.note(channel, message.topic, message.payload))
        channel.answers(ASK, Forwarded, ask)
        channel.on_closed(lambda: self._remove(channel))

    def add(self, channel: Channel) -> None:
        """Pass messages on to that worker, too, from now on: it serves, and knows all topics."""
        if channel.is_open:
            self._serving[channel] = None

    async def stop(self) -> None:
        """Stop adding up what ended workers have left."""
        await self._kept.stop()

    def _remove(self, channel: Channel) -> None:
        self._serving.pop(channel, None)
        del self._names[channel]
        self._kept.end(channel)

    def _tell_others(self, sender: Channel, message: Forwarded) -> None:
        for channel in self._others(sender):
            try:
                channel.send(message.topic, message.payload)
            except ChannelError:
                # It has ended, or hangs.
                continue

    async def _ask(self, sender: Channel, question: Forwarded) -> Answers:
        asker = self._names.get(sender, "")
        asked = (sender, *self._others(sender)) if question.is_kept else self._others(sender)
        given = await asyncio.gather(*(self._answer_of(channel, question) for channel in asked))
        answers: list[Answer] = []
        silent: list[str] = []
        for channel, payload in zip(asked, given, strict=True):
            if (name := self._names.get(channel)) is None:
                # It has ended meanwhile: what it counted is among what ended workers have left.
                continue
            if payload is not None:
                answers.append(Answer(name, payload))
                continue
            silent.append(name)
            if question.is_kept and (last := self._kept.last(channel, question.topic)) is not None:
                answers.append(Answer(name, last, is_current=False))
        if question.is_kept:
            answers += (Answer("", left, is_current=False) for left in self._kept.left(question.topic))
        return Answers(asker, tuple(answers), tuple(silent))

    async def _answer_of(self, channel: Channel, question: Forwarded) -> msgspec.Raw | None:
        try:
            payload = await channel.ask(question.topic, question.payload, msgspec.Raw, timeout_s=question.timeout_s)
        except ChannelError:
            return None
        if question.is_kept:
            self._kept.note(channel, question.topic, payload)
        return payload

    def _others(self, sender: Channel) -> tuple[Channel, ...]:
        return tuple(channel for channel in self._serving if channel is not sender)


def _packed(payload: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(payload))
