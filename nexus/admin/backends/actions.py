"""Drains, undrains, approves and rejects backends: ``POST /admin/backends/<name>/<action>``."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Final
from urllib.parse import unquote

import msgspec
import structlog

from nexus.admin.backends.last_holders import only_at
from nexus.admin.openapi.operation import Operation, Parameter
from nexus.admin.page import json_page
from nexus.domain.fleet import FleetSnapshot
from nexus.domain.routes import Page, PageRequest
from nexus.errors import RequestError, StoreError
from nexus.fleet.discovery.approval.applicants import AnotherServer, NotRecognised
from nexus.fleet.membership.registry import BackendNotFound

log = structlog.get_logger("nexus.admin")

PATH: Final = "/admin/backends/"


NOT_IN_THE_FLEET: Final = "none"
ENDING: Final = frozenset({"drain", "reject"})
"""The actions after which a backend gets no new requests."""

DECIDING: Final = frozenset({"approve", "reject"})

Action = Callable[..., Awaitable[None] | None]
"""Changes the backend with a name; raises BackendNotFound. Approving and rejecting take a URL too."""


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
        Parameter("action", "What to do.", {"enum": ["drain", "undrain", "approve", "reject"]}),
    ),
)


async def change(
    actions: Mapping[str, Action],
    snapshot: Callable[[], FleetSnapshot],
    request: PageRequest,
    *,
    are_decisions_kept: bool = True,
    has_announced_itself: Callable[[str], bool] = lambda _: False,
) -> Page:
    """Carry out the one of *actions* that the path names, on the backend that the path names.

    :param are_decisions_kept: whether an approval or rejection survives a restart.
    :param has_announced_itself: whether a server of that name can be approved and rejected.
    :raises RequestError: there is no such backend, or no such action.
    """
    name, _, word = request.path.removeprefix(PATH).rpartition("/")
    name = unquote(name)
    if word not in actions:
        raise RequestError("not_found", f"a backend can be asked to {' or '.join(actions)}, with POST")
    models = only_at(snapshot(), name) if word in ENDING else ()
    try:
        done = actions[word](name, _decided(request.body).url) if word in DECIDING else actions[word](name)
        if isawaitable(done):
            await done
    except BackendNotFound as exc:
        if any(backend.name == name for backend in snapshot().backends):
            text = f"the backend '{name}' did not announce itself, and needs no approval; it can be drained"
            raise RequestError("bad_request", text) from exc
        if has_announced_itself(name):
            text = f"the server '{name}' is not in the fleet: approve it first, or reject it"
            raise RequestError("bad_request", text) from exc
        raise RequestError("not_found", f"{exc}; /admin/backends lists them") from exc
    except (NotRecognised, AnotherServer) as exc:
        raise RequestError("bad_request", str(exc)) from exc
    except StoreError as exc:
        raise RequestError("overloaded", f"the decision could not be stored: {exc}") from exc
    log.info("drain_requested" if word.endswith("drain") else "approval_requested", backend=name, action=word)
    until_restart = word in DECIDING and not are_decisions_kept
    backend = next((backend for backend in snapshot().backends if backend.name == name), None)
    if backend is None:
        return json_page(Drained(name, NOT_IN_THE_FLEET, 0, models, until_restart))
    return json_page(Drained(name, backend.status, backend.load.in_flight, models, until_restart))


def _decided(body: bytes) -> Decided:
    try:
        return msgspec.json.decode(body, type=Decided) if body else Decided()
    except (msgspec.DecodeError, RecursionError) as exc:
        raise RequestError("invalid_value", "body: expected nothing, or an object with the server's `url`") from exc
