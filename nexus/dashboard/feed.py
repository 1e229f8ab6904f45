"""The live feed: once a second, encodes what has changed and sends it to all viewers."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import structlog

from nexus import tasks
from nexus.dashboard.overview import Overview
from nexus.domain.backend import Backend
from nexus.proxy.dispatch.websocket import Socket

log = structlog.get_logger("nexus.dashboard")

TICK_S: Final = 1.0
MAX_VIEWERS: Final = 1000
MAX_REQUESTS_PER_TICK: Final = 100
"""How many requests are sent one by one; the figures include all of them."""


class Feed:
    """Sends the same frames to all viewers; nothing runs while there are none."""

    def __init__(self, overview: Overview, encode_frame: Callable[[str], bytes], *, tick_s: float = TICK_S) -> None:
        """:param encode_frame: encodes a text message as a WebSocket frame."""
        self._overview = overview
        self._encode_frame = encode_frame
        self._tick_s = tick_s
        self._viewers: dict[Socket, bool] = {}
        """Whether the viewer has missed frames, and needs the whole overview again."""
        self._is_admitted: dict[Socket, Callable[[], bool]] = {}
        self._task: asyncio.Task[None] | None = None
        self._seen: dict[str, Backend] = {}
        self._last_request = 0

    @property
    def viewers(self) -> int:
        """The number of viewers."""
        return len(self._viewers)

    async def serve(self, viewer: Socket, is_admitted: Callable[[], bool]) -> None:
        """Send *viewer* the whole overview, then the changes, until it disconnects.

        :param is_admitted: returns whether it is still authorised; see :meth:`close_expired`.
        """
        if len(self._viewers) >= MAX_VIEWERS:
            log.warning("viewer_refused", viewers=len(self._viewers))
            return
        await self._overview.refresh(is_whole=True, begins=self._task is None)
        everything = self._everything()
        if self._task is None:
            self._remember()
            self._task = tasks.keep_running(self._run, name="dashboard-feed")
        self._viewers[viewer] = not viewer.send(everything)
        self._is_admitted[viewer] = is_admitted
        try:
            await viewer.over()
        finally:
            del self._viewers[viewer], self._is_admitted[viewer]

    def close_expired(self) -> None:
        """Disconnect the viewers that are no longer authorised."""
        for viewer, is_admitted in list(self._is_admitted.items()):
            if not is_admitted():
                viewer.close()

    async def stop(self) -> None:
        """Disconnect all viewers."""
        for viewer in list(self._viewers):
            viewer.close()
        if self._task is not None:
            await tasks.stop(self._task)
            self._task = None

    async def _run(self) -> None:
        while self._viewers:
            await asyncio.sleep(self._tick_s)
            await self._overview.refresh()
            frames, everything = b"".join(self._changes()), None
            if any(self._viewers.values()):
                await self._overview.refresh(is_whole=True)
                everything = self._everything()
            self._send(frames, everything)
        self._task = None

    def _send(self, frames: bytes, everything: bytes | None) -> None:
        for viewer, has_missed_some in list(self._viewers.items()):
            if has_missed_some:
                # The whole overview replaces the frames that it missed; one that has just come may have to wait.
                if everything is not None:
                    self._viewers[viewer] = not viewer.send(everything)
            else:
                self._viewers[viewer] = not viewer.send(frames)

    def _everything(self) -> bytes:
        return self._frame("Overview", self._overview.whole())

    def _remember(self) -> None:
        """Remember the current state, so that only later changes are sent."""
        self._seen = {backend.name: backend for backend in self._overview.backends()}
        self._last_request, _ = self._overview.requests_since(self._last_request, 0)

    def _changes(self) -> Iterator[bytes]:
        before, last_request = self._seen, self._last_request
        self._seen = {backend.name: backend for backend in self._overview.backends()}
        changed = [backend for name, backend in self._seen.items() if before.get(name) is not backend]
        if changed:
            yield self._frame("BackendStatus", [self._overview.row(backend) for backend in changed])
        for backend in changed:
            known = before.get(backend.name)
            if known is None or known.models != backend.models:
                models = self._overview.models_of(backend)
                yield self._frame("ModelChange", {"backend_id": backend.id, "models": models})
        if gone := sorted(before.keys() - self._seen.keys()):
            yield self._frame("BackendRemoved", gone)
        self._last_request, requests = self._overview.requests_since(last_request, MAX_REQUESTS_PER_TICK)
        for request in requests:
            yield self._frame("RequestComplete", request)
        yield self._frame("Figures", self._overview.figures())

    def _frame(self, update_type: str, content: Any) -> bytes:
        return self._encode_frame(msgspec.json.encode({"update_type": update_type, "data": content}).decode())
