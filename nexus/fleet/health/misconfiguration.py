"""Marks backends that refuse their configured credentials, so that they are shown and avoided for a while."""

from asyncio import TimerHandle
from collections.abc import Mapping
from typing import Final

import structlog

from nexus.domain.outcome import AttemptOutcome, Ending
from nexus.error_codes import UpstreamFault
from nexus.fleet.clock import Later, call_later
from nexus.fleet.membership.registry import Registry

log = structlog.get_logger("nexus.fleet")

PAUSE_S: Final = 60.0
"""Then the next request shows whether the key works again; a refusal is cheap."""

FORBIDDEN: Final = 403
FORBIDDEN_TO_MARK: Final = 3
"""A single 403 may concern one request; so many in a row concern the key."""

REASONS: Final[Mapping[int, str]] = {
    401: "it refused the configured key, or asks for one (HTTP 401)",
    402: "the account behind its key cannot pay (HTTP 402)",
    403: "its key is not allowed to do what was requested (HTTP 403)",
    407: "a proxy in front of it asks for credentials (HTTP 407)",
}
OTHER_REASON: Final = "it refused the configured credentials"


class Misconfigurations:
    """A mark lasts until a request succeeds, the configuration changes or its pause ends."""

    def __init__(self, registry: Registry, *, later: Later = call_later) -> None:
        self._registry = registry
        self._later = later
        self.pauses: dict[str, TimerHandle] = {}
        """By id, one for each marked backend."""
        self.forbidden: dict[str, int] = {}
        """By id, how often in a row a backend has responded with 403."""

    def report(self, backend_id: str, outcome: AttemptOutcome) -> None:
        """Apply the outcome of one attempt."""
        if outcome.fault == UpstreamFault.CREDENTIALS:
            if self._registry.get(backend_id) is not None and self._is_certain(backend_id, outcome.status):
                self._mark(backend_id, REASONS.get(outcome.status or 0, OTHER_REASON))
        elif (self.pauses or self.forbidden) and outcome.ending is Ending.FINISHED:
            self.forget(backend_id)

    def forget(self, backend_id: str) -> None:
        """Remove the mark of a backend: its key works, its configuration has changed, or it has left the fleet."""
        self.forbidden.pop(backend_id, None)
        if pause := self.pauses.pop(backend_id, None):
            pause.cancel()
            if self._registry.get(backend_id) is not None:
                self._registry.update(backend_id, misconfigured=None)

    def stop(self) -> None:
        """Cancel all pauses."""
        for pause in self.pauses.values():
            pause.cancel()
        self.pauses.clear()

    def _is_certain(self, backend_id: str, status: int | None) -> bool:
        if status != FORBIDDEN:
            return True
        self.forbidden[backend_id] = in_a_row = self.forbidden.get(backend_id, 0) + 1
        return in_a_row >= FORBIDDEN_TO_MARK

    def _mark(self, backend_id: str, reason: str) -> None:
        if pause := self.pauses.pop(backend_id, None):
            pause.cancel()
        else:
            log.warning("backend_misconfigured", backend=self._registry.row(backend_id).name, reason=reason)
        self.pauses[backend_id] = self._later(PAUSE_S, lambda: self.forget(backend_id))
        self._registry.update(backend_id, misconfigured=reason)
