"""Drains, undrains, approves and rejects backends: ``POST /admin/backends/<name>/<action>``."""

from typing import Final
from urllib.parse import unquote

import msgspec
import structlog

from nexus.admin.backends.last_holders import only_at
from nexus.admin.openapi.operation import Operation, Parameter
from nexus.admin.page import json_page
from nexus.domain.routes import Page, PageRequest
from nexus.errors import RequestError, StoreError
from nexus.fleet.discovery.approval.applicants import AnotherServer, NotRecognised
from nexus.fleet.fleet import Fleet
from nexus.fleet.membership.registry import BackendNotFound

log = structlog.get_logger("nexus.admin")

PATH: Final = "/admin/backends/"
ACTIONS: Final = ("drain", "undrain", "approve", "reject")
NOT_IN_THE_FLEET: Final = "none"
ENDING: Final = frozenset({"drain", "reject"})
"""The actions after which a backend gets no new requests."""

DECIDING: Final = frozenset({"approve", "reject"})


class Decided(msgspec.Struct, frozen=True):
    """The body of an approval or rejection, which may be empty."""

    url: str | None = None
    """The URL that the administrator saw: if the server has moved, the request is refused."""


class Drained(msgspec.Struct, frozen=True):
    """The result of an action."""

    name: str
    status: str
    """The backend's status; ``none`` when it is not in the fleet."""
    pending_requests: int
    """Requests that it is still serving; they are finished."""
    last_with: tuple[str, ...] = ()
    """The models that no other healthy backend had when this one was drained or rejected."""
    until_restart: bool = False
    """Whether the approval or rejection lasts only until the proxy stops, because its store is in memory."""


ACT: Final = Operation(
    summary="Drain a backend or put it back into service; approve or reject one that announced itself",
    answers=(Drained,),
    refusals=(400, 404, 503),
    below=(
        Parameter("name", "The backend's."),
        Parameter("action", "What to do.", {"enum": list(ACTIONS)}),
    ),
)


async def act(fleet: Fleet, request: PageRequest) -> Page:
    """Carry out the action in the path on the backend in the path.

    :raises RequestError: there is no such backend or action, or it cannot be carried out.
    """
    name, _, action = request.path.removeprefix(PATH).rpartition("/")
    name = unquote(name)
    if action not in ACTIONS:
        raise RequestError("not_found", f"the actions on a backend are {', '.join(ACTIONS)}, with POST")
    models = only_at(fleet.snapshot, name) if action in ENDING else ()
    try:
        await _carry_out(fleet, action, name, request.body)
    except BackendNotFound as exc:
        raise _refusal(fleet, name, exc) from exc
    except (NotRecognised, AnotherServer) as exc:
        raise RequestError("bad_request", str(exc)) from exc
    except StoreError as exc:
        raise RequestError("overloaded", f"the decision could not be stored: {exc}") from exc
    log.info("drain_requested" if action.endswith("drain") else "approval_requested", backend=name, action=action)
    until_restart = action in DECIDING and not fleet.are_decisions_kept
    backend = next((backend for backend in fleet.snapshot.backends if backend.name == name), None)
    if backend is None:
        return json_page(Drained(name, NOT_IN_THE_FLEET, 0, models, until_restart))
    return json_page(Drained(name, backend.status, backend.load.everywhere, models, until_restart))


async def _carry_out(fleet: Fleet, action: str, name: str, body: bytes) -> None:
    match action:
        case "drain":
            await fleet.drain(name)
        case "undrain":
            await fleet.undrain(name)
        case "approve":
            await fleet.approve(name, _url_in(body))
        case "reject":
            await fleet.reject(name, _url_in(body))


def _url_in(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=Decided).url if body else None
    except (msgspec.DecodeError, RecursionError) as exc:
        raise RequestError("invalid_value", "body: expected nothing, or an object with the server's `url`") from exc


def _refusal(fleet: Fleet, name: str, exc: BackendNotFound) -> RequestError:
    if any(backend.name == name for backend in fleet.snapshot.backends):
        text = f"the backend '{name}' did not announce itself, and needs no approval; it can be drained"
        return RequestError("bad_request", text)
    if fleet.has_announced_itself(name):
        return RequestError("bad_request", f"the server '{name}' is not in the fleet: approve it first, or reject it")
    return RequestError("not_found", f"{exc}; /admin/backends lists them")
