"""The log of requests that never became exchanges: one line a client and ten seconds, however many there are."""

import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger("nexus.proxy")

WINDOW_S: Final = 10.0
MAX_CLIENTS: Final = 1000


class RefusalLog:
    """Counts per client address, and says something about each at most once in :data:`WINDOW_S`."""

    def __init__(self, on_refused: Callable[[str], None]) -> None:
        self._on_refused = on_refused
        self._clients: dict[str, tuple[float, int]] = {}

    def note(self, remote: str, code: str, request_id: str, client_request_id: str = "") -> None:
        """Count one refused request, and write a line unless one was written just now."""
        self._on_refused(code)
        now = time.monotonic()
        since, unsaid = self._clients.get(remote, (0.0, 0))
        if since and now - since < WINDOW_S:
            self._clients[remote] = since, unsaid + 1
            return
        if len(self._clients) >= MAX_CLIENTS:
            self._clients.clear()
        self._clients[remote] = now, 0
        ids = {"request_id": request_id}
        if client_request_id:
            ids["client_request_id"] = client_request_id
        log.info("request_refused", remote=remote, code=code, **ids, unsaid_before=unsaid)
