"""Sends calls to the server in their order, many in one round trip, and none while the server fails.

A change whose answer is lost may have been made, or may still be on its way. Each change therefore has an id under
which the server keeps its answer: it is sent again with the same id, and before the first call after a failure, the ids
of all changes without an answer are voided. So each was made once before that instant, or never.
"""

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AuthenticationError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as NoConnectionError

from nexus.api import StoreError, StoreOutcomeUnknown, tasks
from nexus_redis.deadlines import answered_within
from nexus_redis.server import disconnect, load_scripts

MAX_WAITING: Final = 1000
"""Calls that may wait for a round trip; further ones are refused."""
MAX_SENT: Final = 100
"""Calls in one round trip."""
MIN_CONNECT_S: Final = 1.0
"""How long connecting may take at the start and after a failure, when no call waits for it."""
FIRST_RETRY_S: Final = 0.05
MAX_RETRY_S: Final = 1.0
VOID_MS: Final = 600_000
"""How long a voided id is kept, in case its change is still on its way."""
MISSING_CREDENTIALS: Final = "it requires a password; name its variable with [plugins.redis] password_env"
REFUSED_BY_SENTINELS: Final = (
    "the sentinels require another password; name its variable with [plugins.redis] sentinel_password_env"
)
NO_PRIMARY: Final = "no sentinel answers, or none knows a primary of that name that works"
DOWN: Final = (RedisError, OSError, TimeoutError)


class Call:
    """A script or command, and its answer."""

    __slots__ = ("answer", "is_sent", "key", "script", "words")

    def __init__(self, script: str | None, words: Sequence[Any], key: str | None) -> None:
        """:param key: under which the server keeps the answer; None for a call that changes nothing."""
        self.script = script
        self.words = words
        self.key = key
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_sent = False

    def fail(self, reason: str) -> None:
        """End with the error that is true of a call that was sent, or was not."""
        kind = StoreOutcomeUnknown if self.is_sent and self.key is not None else StoreError
        if not self.answer.done():
            self.answer.set_exception(kind(reason))


class Link:
    """The way to one server, with its breaker."""

    def __init__(self, client: Redis, place: str, timeout_s: float) -> None:
        self.failure: str | None = None
        """Why no call is sent at the moment; None when calls are."""
        self._client = client
        self._place = place
        self._timeout_s = timeout_s
        self._digests: dict[str, str] = {}
        self._waiting: deque[Call] = deque()
        self._undecided: list[str] = []
        """The keys of changes that were sent and not answered, at most those of one round trip."""
        self._sending: asyncio.Task[Any] | None = None
        self._recovering: asyncio.Task[Any] | None = None
        self._rounds = 0
        """Round trips that were answered."""
        self._is_closed = False

    async def open(self) -> None:
        """Connect. :raises StoreError: that is not possible, or the server is not fit for use."""
        try:
            await self._prepare()
        except (StoreError, *DOWN) as exc:
            await disconnect(self._client)
            raise StoreError(self._said(exc)) from exc

    async def close(self) -> None:
        """Finish all calls, and disconnect."""
        self._is_closed = True
        if self._sending is not None:
            await asyncio.wait({self._sending})
        if self._recovering is not None:
            await tasks.stop(self._recovering)
        await disconnect(self._client)

    async def call(self, script: str | None, *words: Any, key: str | None = None) -> Any:
        """Run *script*, or the command that *words* are, and return the answer.

        :param key: for a change, under which the server keeps the answer.
        :raises StoreError: it failed; as :class:`StoreOutcomeUnknown`, the change may have been made.
        """
        self._refuse()
        call, rounds = Call(script, words, key), self._rounds
        self._waiting.append(call)
        if self._sending is None:
            self._sending = tasks.start(self._send(), name="redis-calls")
        try:
            async with answered_within(self._timeout_s):
                # A caller that leaves cancels only its answer, not the round trip.
                return await call.answer
        except TimeoutError:
            is_silent = call.is_sent or rounds == self._rounds
            reason = f"it did not answer within {self._timeout_s:g} s" if is_silent else "it is overloaded"
            kind = StoreOutcomeUnknown if call.is_sent and key is not None else StoreError
            raise kind(f"store {self._place}: {reason}") from None

    def _refuse(self) -> None:
        if self._is_closed:
            raise StoreError(f"store {self._place} is not open")
        if self.failure is not None:
            raise StoreError(self.failure)
        if len(self._waiting) >= MAX_WAITING:
            raise StoreError(f"store {self._place} is overloaded: {len(self._waiting)} calls are waiting")

    async def _send(self) -> None:
        """Make round trips until no call waits."""
        try:
            while self._waiting:
                calls = self._taken()
                if calls:
                    await self._round_trip(calls)
        finally:
            self._sending = None

    def _taken(self) -> list[Call]:
        """Take the calls of the next round trip, without those whose callers have left."""
        calls: list[Call] = []
        while self._waiting and len(calls) < MAX_SENT:
            call = self._waiting.popleft()
            if not call.answer.done():
                calls.append(call)
        return calls

    async def _round_trip(self, calls: list[Call]) -> None:
        try:
            async with answered_within(self._timeout_s):
                answers = await self._answers(calls)
        except DOWN as exc:
            self._trip(calls, exc)
            return
        self._rounds += 1
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, ReadOnlyError):
                # The server was made a replica: another one is the primary now.
                self._trip(calls, answer)
                return
            if isinstance(answer, Exception):
                call.is_sent = False
                call.fail(self._said(answer))
            elif not call.answer.done():
                call.answer.set_result(answer)

    async def _answers(self, calls: list[Call]) -> list[Any]:
        try:
            answers = await self._pipelined(calls)
        except NoConnectionError:
            # The server closes connections that are idle or old. What was made is not made again: the ids are the same.
            answers = await self._pipelined(calls)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            self._digests = await load_scripts(self._client)
            answers = await self._pipelined(calls)
        return answers

    async def _pipelined(self, calls: list[Call]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            call.is_sent = True
            words = call.words if call.script is None else ("EVALSHA", self._digests[call.script], *call.words)
            pipeline.execute_command(*words)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    def _trip(self, calls: list[Call], exc: BaseException) -> None:
        """Fail all calls and send no more until the server works again."""
        self.failure = self._said(exc)
        self._undecided.extend(call.key for call in calls if call.key is not None)
        for call in chain(calls, self._waiting):
            call.fail(self.failure)
        self._waiting.clear()
        if not self._is_closed:
            self._recovering = tasks.keep_running(self._recover, name="redis-recovery")

    async def _recover(self) -> None:
        delay_s = FIRST_RETRY_S
        while self.failure is not None:
            try:
                await self._prepare()
            except (StoreError, *DOWN) as exc:
                self.failure = self._said(exc)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, MAX_RETRY_S)
            else:
                self.failure = None

    async def _prepare(self) -> None:
        """Connect anew, check the server, and void the changes without an answer."""
        await self._client.connection_pool.disconnect()
        async with asyncio.timeout(max(self._timeout_s, MIN_CONNECT_S)):
            self._digests = await load_scripts(self._client)
            for key in self._undecided:
                await self._client.set(key, "void", px=VOID_MS, nx=True)
        self._undecided.clear()

    def _said(self, exc: BaseException) -> str:
        if isinstance(exc, AuthenticationError) or isinstance(exc.__cause__, AuthenticationError):
            reason = "it refuses the user and password" if self._has_password() else MISSING_CREDENTIALS
        elif isinstance(exc, MovedError | ClusterDownError):
            reason = f"it is a node of a cluster without these keys ({exc}); give the address of the one that has them"
        elif isinstance(exc, MasterNotFoundError):
            reason = REFUSED_BY_SENTINELS if "Authentication" in str(exc) else NO_PRIMARY
        elif isinstance(exc, NoConnectionError) and (cause := _of_system(exc)) is not None:
            reason = f"no connection: {_words(cause)}"
        elif isinstance(exc, TimeoutError):
            reason = f"it did not answer within {self._timeout_s:g} s"
        elif isinstance(exc, StoreError | RedisError):
            reason = str(exc)
        else:
            reason = getattr(exc, "strerror", None) or str(exc)
        return f"store {self._place}: {reason}"

    def _has_password(self) -> bool:
        return self._client.connection_pool.connection_kwargs.get("password") is not None


def _of_system(exc: BaseException) -> OSError | None:
    """Return the system's error that led to *exc*, which redis-py may have raised again and again; None: none did."""
    seen: list[BaseException] = []
    cause: BaseException | None = exc
    while cause is not None and cause not in seen:
        if isinstance(cause, OSError) and not isinstance(cause, TimeoutError):
            return cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _words(exc: OSError) -> str:
    """Return the system's own words: asyncio puts the address in their place."""
    if isinstance(exc, ssl.SSLError | socket.gaierror) or exc.errno is None:
        return exc.strerror or str(exc)
    return os.strerror(exc.errno)
