"""Watches files in which other programs list backends; the last valid content of each file counts."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
import structlog

from nexus import tasks
from nexus.config.discovery_schema import FileSourceConfig
from nexus.config.fleet_file import Load
from nexus.fleet.discovery.discoverer import Discoverer
from nexus.fleet.discovery.files.declared import Declared
from nexus.fleet.discovery.files.watched_file import MAX_BACKENDS, SOURCE, FileReader, FileState, Kinds

log = structlog.get_logger("nexus.fleet")

LOOK_S: Final = 0.5
"""Between two looks at a file."""
FIRST_LOOK_S: Final = 2.0
"""How long the start waits for files, such as one on a network drive that does not respond."""


class FileDiscoverer(Discoverer):
    """Looks at every file repeatedly. The operator has configured them, so their backends need no approval."""

    name = SOURCE
    is_certain = True

    def __init__(
        self,
        sources: Iterable[FileSourceConfig],
        load: Load,
        kinds: Kinds,
        *,
        before: "FileDiscoverer | None" = None,
        look_s: float = LOOK_S,
    ) -> None:
        """:param before: the discoverer that it replaces at a reload; a file that is invalid now keeps its backends."""
        self.sources = tuple(sources)
        self._look_s = look_s
        self.readers = tuple(FileReader(source, load, kinds) for source in self.sources)
        old: Mapping[str, FileState] = {} if before is None else before.states
        self.states: dict[str, FileState] = {
            # Without its stamp the file is read again, because the configuration may allow other secrets now.
            source.path: msgspec.structs.replace(old.get(source.path, FileState()), stamp=None)
            for source in self.sources
        }
        """By path."""
        self._is_changed = asyncio.Event()

    def found(self) -> tuple[Declared, ...]:
        """Return the backends in all files; two files may use the same name."""
        return tuple(
            Declared(
                f"{path}: {member.config.name}",
                member.config.url,
                is_stale=state.failure is not None,
                member=member,
                file=path,
                rank=rank,
            )
            for rank, (path, state) in enumerate(self.states.items())
            for member in (entry.member for entry in state.entries)
        )

    async def open(self) -> None:
        """Look at each file once, so that their backends are known at the start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await asyncio.gather(*map(self._look, self.readers), return_exceptions=True)

    async def watch(self) -> AsyncGenerator[tuple[Declared, ...], None]:
        following = [tasks.keep_running(partial(self._follow, reader), name="discover-file") for reader in self.readers]
        try:
            while True:
                self._is_changed.clear()
                if all(state.seen is not None for state in self.states.values()):
                    yield self.found()
                await self._is_changed.wait()
        finally:
            await tasks.stop(*following)

    async def _follow(self, reader: FileReader) -> None:
        while True:
            await self._look(reader)
            await asyncio.sleep(self._look_s)

    async def _look(self, reader: FileReader) -> None:
        path = reader.source.path
        before = self.states[path]
        now = await asyncio.to_thread(reader.look, before, room=self._room_beside(path))
        while len(now.entries) > (room := self._room_beside(path)):
            # Another file was read in the meantime and left less room.
            now = await asyncio.to_thread(reader.look, before, room=room)
        self.states[path] = now
        if now.failure is not None and now.failure != before.failure:
            log.warning("fleet_file_failed", file=path, reason=now.failure, backends=len(now.entries))
        elif now.taken_unix_s != before.taken_unix_s and (now.entries != before.entries or before.failure is not None):
            log.info("fleet_file_read", file=path, backends=len(now.entries))
        is_other = now.entries != before.entries or (now.failure is None) != (before.failure is None)
        if is_other or before.seen is None:
            self._is_changed.set()

    def _room_beside(self, path: str) -> int:
        return MAX_BACKENDS - sum(len(state.entries) for other, state in self.states.items() if other != path)
