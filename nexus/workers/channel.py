"""One connection between two processes of a proxy: messages, and questions with answers."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec
import structlog

from nexus import tasks
from nexus.containment import safe_text
from nexus.errors import NexusError
from nexus.workers.frames import Failure, Frame, FrameReader, FrameTooLong, Kind, encode

log = structlog.get_logger("nexus.workers")

MAX_UNSENT_BYTES: Final = 64 * 2**20
"""How much may wait for the other process to read it. It reads within milliseconds, unless it hangs."""
MAX_QUESTIONS: Final = 4096
"""How many questions may be without an answer, in each direction."""

A = TypeVar("A")
Q = TypeVar("Q")


class ChannelError(NexusError):
    """A message cannot be sent, or a question has no answer."""


class ChannelClosed(ChannelError):
    """The other process has ended."""


class ChannelFull(ChannelError):
    """The other process does not read, or has too many questions to answer."""


class NotAnswered(ChannelError):
    """The other process did not answer in time."""


class PeerFailed(ChannelError):
    """The other process could not answer.

    :param error: the name of its exception's class.
    :param text: the text of that exception.
    """

    def __init__(self, topic: str, error: str, text: str) -> None:
        super().__init__(f"the question '{topic}' to another process of this proxy failed: {error}: {text}")
        self.error = error
        self.text = text


class Channel(asyncio.Protocol):
    """One end of the connection. Messages arrive once each, and in the order in which they were sent.

    Every topic is registered with :meth:`on` or :meth:`answers` before :meth:`open`, or before the other process has a
    reason to send it: a message of an unknown topic is logged and dropped, and a question is refused.

    :param name: names the other process in logs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._receivers: dict[str, Callable[[msgspec.Raw], None]] = {}
        self._answerers: dict[str, Callable[[msgspec.Raw], Awaitable[object]]] = {}
        self._questions: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._last_number = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()
        self._on_closed: list[Callable[[], None]] = []

    # before it is open

    def on(self, topic: str, type_: type[A], receive: Callable[[A], None]) -> None:
        """Call *receive* with each message of *topic*, in order; an exception of it is logged."""
        decode = msgspec.msgpack.Decoder(type_).decode
        self._receivers[topic] = lambda payload: receive(decode(payload))

    def answers(self, topic: str, type_: type[Q], answer: Callable[[Q], Awaitable[object]]) -> None:
        """Answer each question of *topic* with what *answer* returns, or fail it with its exception.

        Questions are answered concurrently: each *answer* begins in the order of the questions, after the messages that
        arrived together with it.
        """
        decode = msgspec.msgpack.Decoder(type_).decode

        async def decoded(payload: msgspec.Raw) -> object:
            return await answer(decode(payload))

        self._answerers[topic] = decoded

    def on_closed(self, callback: Callable[[], None]) -> None:
        """Call *callback* once when the connection ends, whichever side ends it; at once if it has ended."""
        if self._closed.is_set():
            callback()
        else:
            self._on_closed.append(callback)

    async def open(self, sock: socket.socket) -> None:
        """Use *sock*, one of a connected pair of Unix stream sockets, and own it from now on."""
        sock.setblocking(False)  # noqa: FBT003 - its only parameter
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    # while it is open

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def unsent(self) -> int:
        """How many bytes the other process has not read yet, besides those in the socket's own buffer."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def send(self, topic: str, payload: object) -> None:
        """Send a message, to be received by the other side's :meth:`on`.

        :param payload: anything that msgspec encodes.
        :raises ChannelClosed: the other process has ended.
        :raises ChannelFull: the other process does not read.
        :raises FrameTooLong: *payload* is too long.
        """
        self._send("message", 0, topic, payload)

    async def ask(self, topic: str, payload: object, type_: type[A], *, timeout_s: float) -> A:
        """Send a question and return the answer, decoded as *type_*.

        A question that times out, or whose task is cancelled, may have been answered nevertheless.

        :raises ChannelClosed: the other process has ended, or ends before it answers.
        :raises ChannelFull: the other process does not read, or too many questions are without an answer.
        :raises NotAnswered: there is no answer after *timeout_s*.
        :raises PeerFailed: the other process failed to answer.
        :raises FrameTooLong: *payload* is too long.
        """
        if len(self._questions) >= MAX_QUESTIONS:
            raise ChannelFull(f"{len(self._questions)} questions to {self.name} have no answer yet")
        self._last_number = number = self._last_number + 1
        answer = asyncio.get_running_loop().create_future()
        self._send("question", number, topic, payload)
        self._questions[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                received: msgspec.Raw = await answer
        except TimeoutError as exc:
            raise NotAnswered(f"{self.name} has not answered '{topic}' after {timeout_s:g} s") from exc
        finally:
            self._questions.pop(number, None)
        return msgspec.msgpack.decode(received, type=type_)

    def close(self) -> None:
        """Send what was written and close the connection; the other side reads to the end and then sees it closed."""
        if self._transport is not None:
            self._transport.close()

    async def closed(self) -> None:
        """Wait until the connection has ended."""
        await self._closed.wait()

    def _send(self, kind: Kind, number: int, topic: str, payload: object) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ChannelClosed(f"{self.name} has ended")
        if transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise ChannelFull(f"{self.name} does not read")
        transport.write(encode(kind, number, topic, payload))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # the transport of a stream

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._reader.feed(data)
        except (FrameTooLong, msgspec.DecodeError):
            # The other process runs the same code, so this is a defect; nothing after it can be read.
            log.exception("channel_broken", peer=self.name)
            if self._transport is not None:
                self._transport.abort()
            return
        for frame in frames:
            self._receive(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        for answer in self._questions.values():
            if not answer.done():
                answer.set_exception(ChannelClosed(f"{self.name} has ended"))
        self._questions.clear()
        self._closed.set()
        for callback in self._on_closed:
            callback()

    # what arrives

    def _receive(self, frame: Frame) -> None:
        match frame.kind:
            case "message":
                self._take_message(frame)
            case "question":
                self._take_question(frame)
            case _:
                self._take_answer(frame)

    def _take_message(self, frame: Frame) -> None:
        receive = self._receivers.get(frame.topic)
        if receive is None:
            log.warning("channel_topic_unknown", peer=self.name, topic=frame.topic)
            return
        try:
            receive(frame.payload)
        except Exception:
            # One message that cannot be used must not end the connection, on which everything else depends.
            log.exception("channel_message_failed", peer=self.name, topic=frame.topic)

    def _take_question(self, frame: Frame) -> None:
        answer = self._answerers.get(frame.topic)
        if answer is None:
            self._refuse(frame, Failure("ChannelError", "the topic is unknown"))
        elif len(self._answering) >= MAX_QUESTIONS:
            self._refuse(frame, Failure("ChannelFull", "too many questions have no answer yet"))
        else:
            task = tasks.start(self._answer(frame, answer), name=f"answer {frame.topic}")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, frame: Frame, answer: Callable[[msgspec.Raw], Awaitable[object]]) -> None:
        try:
            result = await answer(frame.payload)
        except NexusError as exc:
            self._refuse(frame, Failure(type(exc).__name__, str(exc)))
        except Exception as exc:
            log.exception("channel_question_failed", peer=self.name, topic=frame.topic)
            self._refuse(frame, Failure(type(exc).__name__, safe_text(exc)))
        else:
            self._reply("answer", frame, result)

    def _refuse(self, frame: Frame, failure: Failure) -> None:
        self._reply("failure", frame, failure)

    def _reply(self, kind: Kind, frame: Frame, payload: object) -> None:
        try:
            self._send(kind, frame.number, frame.topic, payload)
        except FrameTooLong as exc:
            self._refuse(frame, Failure("FrameTooLong", str(exc)))
        except ChannelClosed:
            # The other process has ended, and its questions with it.
            return
        except ChannelFull as exc:
            log.warning("channel_answer_lost", peer=self.name, topic=frame.topic, reason=str(exc))

    def _take_answer(self, frame: Frame) -> None:
        answer = self._questions.get(frame.number)
        if answer is None or answer.done():
            # The question has timed out, or its task was cancelled.
            return
        if frame.kind == "answer":
            answer.set_result(frame.payload)
        else:
            failure = msgspec.msgpack.decode(frame.payload, type=Failure)
            answer.set_exception(PeerFailed(frame.topic, failure.error, failure.text))
