"""Accepts connections at the sockets of other workers that do not: they have ended, or their event loop hangs."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from nexus import tasks

log = structlog.get_logger("nexus.app")


class Adoption:
    """Serves at the sockets of the other workers that :meth:`attend` names, until it names them no more.

    :param sockets: the descriptors of the other workers' sockets, by the number of the worker.
    :param serve: serves at a socket, which it owns from then on; None: this worker serves no new clients any more.
    """

    def __init__(
        self, sockets: Mapping[int, tuple[int, ...]], serve: Callable[[socket.socket], Awaitable[asyncio.Server | None]]
    ) -> None:
        self._sockets = sockets
        self._serve = serve
        self._wanted: frozenset[int] = frozenset()
        self._served: dict[int, list[asyncio.Server]] = {}
        self._changing: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Close the descriptors: as long as a process has one, the kernel completes connections that nothing accepts.

        Servers that have adopted a socket have a descriptor of their own, and are closed with those of this worker.
        """
        for number in {number for group in self._sockets.values() for number in group}:
            os.close(number)
        self._sockets, self._wanted = {}, frozenset(self._served)

    def attend(self, workers: Iterable[int]) -> None:
        """Serve at the sockets of these workers, and of no others but this one."""
        if not self._sockets:
            return
        self._wanted = frozenset(workers) & self._sockets.keys()
        if self._changing is None and self._wanted != self._served.keys():
            self._changing = tasks.start(self._change(), name="adopt sockets")

    async def _change(self) -> None:
        try:
            while self._wanted != self._served.keys():
                for worker in self._served.keys() - self._wanted:
                    # What waits there is accepted by its own worker.
                    for server in self._served.pop(worker):
                        server.close()
                    log.debug("sockets_returned", of_worker=worker)
                for worker in self._wanted - self._served.keys():
                    self._served[worker] = await self._servers_of(worker)
                    log.debug("sockets_adopted", of_worker=worker)
        finally:
            self._changing = None

    async def _servers_of(self, worker: int) -> list[asyncio.Server]:
        # All at once: afterwards, the numbers may be closed, and stand for other files.
        sockets = [socket.socket(fileno=os.dup(number)) for number in self._sockets.get(worker, ())]
        served = [await self._serve(sock) for sock in sockets]
        return [server for server in served if server is not None]
