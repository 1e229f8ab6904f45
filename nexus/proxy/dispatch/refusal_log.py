"""Logs requests that never became exchanges: at most one line per client and ten seconds."""

import time
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger("nexus.proxy")

WINDOW_S: Final = 10.0
MAX_CLIENTS: Final = 1000
MAX_PATH_CHARACTERS: Final = 200
"""Of a path that is logged."""


class RefusalLog:
    """Counts refusals per client address, and logs each address once per :data:`WINDOW_S`."""

    def __init__(self, on_refused: Callable[[str], None]) -> None:
        self._on_refused = on_refused
        self._clients: dict[str, tuple[float, int]] = {}
        """When a line was written, and how many refusals have followed, by address."""

    def note(self, remote: str, code: str, request_id: str, client_request_id: str = "", target: str = "") -> None:
        """Count one refused request, and log it unless the client's last line is recent.

        :param target: what it asked for; its query, which may hold a key, is not logged.
        """
        self._on_refused(code)
        now = time.monotonic()
        logged_at, unlogged = self._clients.get(remote, (0.0, 0))
        if logged_at and now - logged_at < WINDOW_S:
            self._clients[remote] = logged_at, unlogged + 1
            return
        if len(self._clients) >= MAX_CLIENTS:
            self._clients.clear()
        self._clients[remote] = now, 0
        ids = {"request_id": request_id}
        if client_request_id:
            ids["client_request_id"] = client_request_id
        path = target.partition("?")[0][:MAX_PATH_CHARACTERS]
        log.info("request_refused", remote=remote, code=code, path=path, **ids, unsaid_before=unlogged)
