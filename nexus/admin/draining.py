"""Taking a backend out of service and putting it back: ``POST /admin/backends/<name>/drain`` and ``/undrain``."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

import msgspec
import structlog

from nexus.admin.page import json_page
from nexus.domain.backend import Status
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.routes import Page, PageRequest
from nexus.errors import RequestError
from nexus.fleet.registry import BackendNotFound

log = structlog.get_logger("nexus.admin")

PATH: Final = "/admin/backends/"


class Drained(msgspec.Struct, frozen=True):
    """What came of it."""

    name: str
    status: Status
    pending_requests: int
    """Those that it is still busy with; they end as they would have."""


def change(
    actions: Mapping[str, Callable[[str], None]], snapshot: Callable[[], FleetSnapshot], asked: PageRequest
) -> Page:
    """Answer the request for one of *actions*, by its word, on the backend that the path names.

    :raises RequestError: there is no such backend, or no such action.
    """
    name, _, word = asked.path.removeprefix(PATH).rpartition("/")
    name = unquote(name)
    if word not in actions:
        raise RequestError("not_found", f"a backend can be asked to {' or '.join(actions)}, with POST")
    try:
        actions[word](name)
        log.info("drain_requested", backend=name, action=word)
    except BackendNotFound as exc:
        raise RequestError("not_found", f"{exc}; /admin/backends lists them") from exc
    backend = next(backend for backend in snapshot().backends if backend.name == name)
    return json_page(Drained(name, backend.status, backend.load.in_flight))
