"""Lets workers ask and tell each other: each has a channel to the parent only, which passes on what they send."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import msgspec

from nexus.workers.channel import Channel, ChannelError

ASK: Final = "peers.ask"
TELL: Final = "peers.tell"
PASSING_S: Final = 1.0
"""How much longer than the other workers the parent may take."""

T = TypeVar("T")


class Forwarded(msgspec.Struct, frozen=True, array_like=True):
    """A message or a question for all other workers."""

    topic: str
    payload: msgspec.Raw
    timeout_s: float = 0.0
    """How long each of them may take to answer."""


class Answers(msgspec.Struct, frozen=True, array_like=True):
    """What the other workers have answered."""

    payloads: tuple[msgspec.Raw, ...]
    asked: int
    """How many were asked; those that are missing failed or did not answer in time."""


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

    async def ask(self, topic: str, payload: object, type_: type[T], *, timeout_s: float) -> tuple[tuple[T, ...], int]:
        """Ask all others that serve, each of which answers by :meth:`Channel.answers`.

        :returns: the answers, each decoded as *type_*, of those that answered in time; and how many were asked.
        :raises ChannelError: the parent has ended, or does not answer.
        """
        question = Forwarded(topic, _packed(payload), timeout_s)
        answers = await self._channel.ask(ASK, question, Answers, timeout_s=timeout_s + PASSING_S)
        decode = msgspec.msgpack.Decoder(type_).decode
        return tuple(decode(each) for each in answers.payloads), answers.asked


class Switchboard:
    """The parent's part: passes on what one worker sends to the others."""

    def __init__(self) -> None:
        self._channels: dict[Channel, None] = {}
        """Of the workers that serve."""

    def serve(self, channel: Channel) -> None:
        """Let the worker at the other end of *channel*, which is not open yet, use :class:`Peers`."""

        async def ask(question: Forwarded) -> Answers:
            return await self._ask_others(channel, question)

        channel.on(TELL, Forwarded, lambda message: self._tell_others(channel, message))
        channel.answers(ASK, Forwarded, ask)
        channel.on_closed(lambda: self._channels.pop(channel, None))

    def add(self, channel: Channel) -> None:
        """Pass messages on to that worker, too, from now on: it serves, and knows all topics."""
        if channel.is_open:
            self._channels[channel] = None

    def _tell_others(self, sender: Channel, message: Forwarded) -> None:
        for channel in self._others(sender):
            try:
                channel.send(message.topic, message.payload)
            except ChannelError:
                # It has ended, or hangs.
                continue

    async def _ask_others(self, sender: Channel, question: Forwarded) -> Answers:
        others = self._others(sender)
        answers = await asyncio.gather(
            *(
                channel.ask(question.topic, question.payload, msgspec.Raw, timeout_s=question.timeout_s)
                for channel in others
            ),
            return_exceptions=True,
        )
        return Answers(tuple(each for each in answers if isinstance(each, msgspec.Raw)), len(others))

    def _others(self, sender: Channel) -> tuple[Channel, ...]:
        return tuple(channel for channel in self._channels if channel is not sender)


def _packed(payload: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(payload))
