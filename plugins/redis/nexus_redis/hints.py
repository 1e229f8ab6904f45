"""Receives hints of other replicas by publish and subscribe, on a connection of its own."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from nexus.api import tasks
from nexus_redis.server import disconnect

RETRY_S: Final = 1.0
POLL_S: Final = 30.0
"""How long to wait for a hint before the connection is tried with a ping."""


class Hints:
    """Receives the hints of the other replicas for as long as it is open; some are lost while the server fails."""

    def __init__(self, client: Redis, channel: str, own_id: str, receive: Callable[[str, bytes], None]) -> None:
        """:param own_id: begins the hints of this replica, in a line of its own; the second line is the topic."""
        self._client = client
        self._channel = channel
        self._own_id = own_id.encode()
        self._receive = receive
        self._listening: asyncio.Task[Any] | None = None

    def open(self) -> None:
        self._listening = tasks.keep_running(self._listen, name="redis-hints")

    async def close(self) -> None:
        if self._listening is not None:
            await tasks.stop(self._listening)
        await disconnect(self._client)

    async def _listen(self) -> None:
        while True:
            with suppress(RedisError, OSError):
                await self._follow()
            # The store reports that the server fails; hints come again with it.
            await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(self._channel)
            while True:
                # A server that vanished without a word is noticed by the ping.
                async with asyncio.timeout(2 * POLL_S):
                    found = await subscription.get_message(timeout=POLL_S)
                if found is None:
                    await subscription.ping()
                elif found["type"] == "message":
                    self._deliver(found["data"])

    def _deliver(self, packed: bytes) -> None:
        sender, _, rest = packed.partition(b"\n")
        topic, _, message = rest.partition(b"\n")
        if sender != self._own_id:
            self._receive(topic.decode(errors="replace"), message)
