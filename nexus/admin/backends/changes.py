"""Adds, changes and removes backends while the proxy runs, at ``/admin/backends``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec
import structlog

from nexus.admin.backends.actions import PATH
from nexus.admin.backends.last_holders import only_at
from nexus.admin.backends.view import BackendView, view_of
from nexus.admin.openapi.operation import Operation, Parameter, Schema
from nexus.admin.page import json_page
from nexus.config.faults import Fault, Origin, described
from nexus.domain.routes import Page, PageRequest
from nexus.errors import RequestError, StoreError
from nexus.fleet.added import SOURCE, BackendRefused
from nexus.fleet.discovery.files.watched_file import SOURCE as FILE
from nexus.fleet.fleet import Fleet
from nexus.fleet.membership.member import Member
from nexus.fleet.membership.registry import BackendNotFound

log = structlog.get_logger("nexus.admin")

_BODY: Final = Origin("body")


class AddedView(msgspec.Struct, frozen=True):
    """A backend that was added or changed."""

    backend: BackendView
    persist: bool
    """Whether it is added again at the next start."""


class Removed(msgspec.Struct, frozen=True):
    """The result of removing a backend."""

    name: str
    outcome: Literal["removed", "rejected"]
    """``rejected``: it was discovered, and stays out of the fleet until it is approved."""
    pending_requests: int
    """Requests that it is still serving; they are finished."""
    last_with: tuple[str, ...] = ()
    """The models that no other healthy backend had."""


_TABLE: Final[Schema] = {
    "type": "object",
    "description": "The keys of one [[backends]] table, and persist: whether it is kept over a restart.",
    "properties": {
        "name": {"type": "string"},
        "url": {"type": "string"},
        "persist": {"type": ["boolean", "null"]},
    },
}
_NAME: Final = Parameter("name", "The backend's.")

ADD: Final = Operation(
    summary="Add a backend while the proxy runs",
    answers=(AddedView,),
    statuses=(201,),
    refusals=(400, 403, 413, 503),
    body={**_TABLE, "required": ["name", "url"]},
)
CHANGE: Final = Operation(
    summary="Change keys of a backend that was added like this; null takes a key away",
    answers=(AddedView,),
    refusals=(400, 403, 404, 413, 503),
    below=(_NAME,),
    body=_TABLE,
)
REMOVE: Final = Operation(
    summary="Remove a backend that was added like this, or reject one that announced itself",
    answers=(Removed,),
    refusals=(400, 403, 404, 503),
    below=(_NAME,),
)


class FleetChanges:
    """Answers the requests that change the fleet; every refusal is a RequestError."""

    def __init__(self, fleet: Fleet, *, only_admins: bool, file: str) -> None:
        """:param only_admins: whether only administrators may call this, and not every client.
        :param file: the name of the configuration file.
        """
        self._fleet = fleet
        self._only_admins = only_admins
        self._file = file

    async def add(self, request: PageRequest) -> Page:
        """Answer ``POST /admin/backends``."""
        self._refuse_clients()
        table, persist = table_of(request.body)
        with refusals():
            member = await self._fleet.added.add(table, persist=bool(persist))
        log.info("backend_added", backend=member.config.name, url=member.config.url, persist=bool(persist))
        return self._shown(member, status=201)

    async def change(self, request: PageRequest) -> Page:
        """Answer ``PATCH /admin/backends/<name>``."""
        self._refuse_clients()
        name = _name_in(request.path)
        self._refuse_others(name, "change")
        changes, persist = table_of(request.body)
        with refusals():
            member = await self._fleet.added.change(name, changes, persist=persist)
        log.info("backend_changed", backend=name, keys=sorted(changes)[:20])
        return self._shown(member)

    async def remove(self, request: PageRequest) -> Page:
        """Answer ``DELETE /admin/backends/<name>``."""
        self._refuse_clients()
        name = _name_in(request.path)
        row = next((backend for backend in self._fleet.snapshot.backends if backend.name == name), None)
        pending = 0 if row is None else row.load.everywhere
        models = only_at(self._fleet.snapshot, name)
        is_announced = name not in self._fleet.added and self._fleet.has_announced_itself(name)
        with refusals():
            if is_announced:
                await self._fleet.reject(name)
            else:
                self._refuse_others(name, "remove")
                await self._fleet.added.remove(name)
        log.info("backend_removed", backend=name, is_rejected=is_announced)
        return json_page(Removed(name, "rejected" if is_announced else "removed", pending, models))

    def _refuse_clients(self) -> None:
        if not self._only_admins:
            # An added backend receives the prompts of all clients.
            raise RequestError(
                "forbidden", "the key of any client gives access to this page; set server.admin_keys to allow changes"
            )

    def _refuse_others(self, name: str, action: str) -> None:
        """Raise RequestError if backend *name* is in the fleet but was not added at runtime."""
        row = next((backend for backend in self._fleet.snapshot.backends if backend.name == name), None)
        if name in self._fleet.added or row is None or row.discovery_source == SOURCE:
            return
        if row.discovery_source == "static":
            hint = f"is set in {self._file}; {action} it there and reload, or drain it"
        elif row.discovery_source == FILE:
            hint = f"is listed in {self._file_that_lists(name)}; {action} it there, or drain it"
        else:
            hint = f"was found by discovery ({row.discovery_source}), which would find it again; drain it"
        raise RequestError("bad_request", f"the backend '{name}' {hint}")

    def _file_that_lists(self, name: str) -> str:
        listing = (
            path
            for path, state in self._fleet.files.items()
            if any(entry.member.config.name == name for entry in state.entries)
        )
        return next(listing, "a watched file")

    def _shown(self, member: Member, *, status: int = 200) -> Page:
        row = self._fleet.snapshot.by_id.get(member.id)
        if row is None:
            raise RequestError(
                "bad_request", "a reload gave its name or address to a backend in the configuration file"
            )
        view = view_of(row, self._fleet.origin_of(row.id))
        return json_page(AddedView(view, self._fleet.added.is_persistent(member.config.name)), status=status)


def _name_in(path: str) -> str:
    name = path.removeprefix(PATH)
    if "/" in name:
        raise RequestError("not_found", "expected /admin/backends/<name>")
    return unquote(name)


def table_of(body: bytes) -> tuple[dict[str, Any], bool | None]:
    """Return the keys in *body*, and the value of ``persist``."""
    try:
        table = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError as exc:
        raise RequestError("invalid_value", "body: expected an object with the keys of [[backends]]") from exc
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise RequestError("invalid_json", f"the body is not valid JSON: {exc}") from exc
    persist = table.pop("persist", None)
    if persist is not None and not isinstance(persist, bool):
        raise RequestError("invalid_value", "body: expected `bool` - at `persist`", param="persist")
    return table, persist


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors of the fleet into errors for the client."""
    try:
        yield
    except Fault as fault:
        param = ".".join(map(str, fault.path))[:100]
        raise RequestError("invalid_value", described(fault, _BODY), param=param or None) from fault
    except BackendRefused as exc:
        raise RequestError("invalid_value", f"body: {exc}", param=exc.key or None) from exc
    except BackendNotFound as exc:
        raise RequestError("not_found", f"{exc}; /admin/backends lists them") from exc
    except StoreError as exc:
        raise RequestError("overloaded", f"the change could not be stored: {exc}") from exc
