"""What is said about each path that Nexus answers itself; how it may be called, its route says."""

from collections.abc import Mapping
from typing import Any, Final, get_args

import msgspec

from nexus.admin.backends.actions import PATH as BACKENDS_PATH
from nexus.admin.backends.actions import Drained
from nexus.admin.backends.changes import AddedView, Removed
from nexus.admin.backends.view import FleetView
from nexus.admin.configuration import CONFIG_PATH, ConfigView
from nexus.admin.health import Health, Ready
from nexus.admin.history import MOST_ENTRIES, HistoryEntry
from nexus.admin.routing.decisions import DECISIONS_PATH, Listing
from nexus.admin.stats import Stats
from nexus.proxy.dispatch.explained_path import EXPLAIN_PATH
from nexus.routing.decision_record import MOST_RECORDS
from nexus.routing.explain.model import DecisionReport, Explanation
from nexus.wire.anthropic.models import AnthropicModel, AnthropicModels
from nexus.wire.ollama.models import OllamaRunningModels, OllamaShown, OllamaTags, OllamaVersion
from nexus.wire.openai.models import OpenAIModel, OpenAIModels
from nexus.wire.protocols import ENDPOINTS

OPENAPI_PATH: Final = "/openapi.json"
JSON: Final = "application/json"

Schema = Mapping[str, Any]

NAMED_MODEL: Final[Schema] = {
    "type": "object",
    "properties": {"model": {"type": "string", "minLength": 1}},
    "required": ["model"],
}
"""All that Nexus itself asks of a body that has to name a model."""
MAYBE_NAMED_MODEL: Final[Schema] = {"type": "object", "properties": {"model": {"type": ["string", "null"]}}}
"""The same of a request to a model: without a name, the default model is asked."""


class Parameter(msgspec.Struct, frozen=True):
    """One part of a path, or of a query."""

    name: str
    meaning: str
    schema: Schema | None = None
    """None: any text."""
    is_required: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One path."""

    summary: str
    answers: tuple[Any, ...] = ()
    """The types of what may be answered, in JSON; none: anything of :attr:`content_types`."""
    content_types: tuple[str, ...] = (JSON,)
    statuses: tuple[int, ...] = (200,)
    """With these it is answered."""
    refusals: tuple[int, ...] = ()
    """With these, and an error in the client's protocol, it is refused, beside what any request may be refused with."""
    below: tuple[Parameter, ...] = ()
    """What follows a path that stands for all below it."""
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None


def _limit(most: int) -> Parameter:
    return Parameter("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": most})


_MODEL: Final = Parameter("model", "As the client sent it, or as a backend was asked for it.")
_BACKEND: Final = Parameter("backend", "The name of the one asked last.")
_INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}
_STATUS: Final[Schema] = {"type": "integer", "minimum": 100, "maximum": 599}
_DECISIONS: Final = list(get_args(msgspec.structs.fields(DecisionReport)[0].type))

OPERATIONS: Final[Mapping[str, Operation]] = {
    "/": Operation(
        summary="The dashboard for browsers; for anybody else, what Ollama's clients look for",
        content_types=("text/html", "text/plain"),
        refusals=(401,),
    ),
    "/assets/": Operation(
        summary="A file of the dashboard", content_types=("text/css", "text/javascript", "image/svg+xml")
    ),
    "/ws": Operation(
        summary="The dashboard's live feed, a WebSocket",
        statuses=(101,),
        refusals=(400, 401, 426),
        query=(Parameter("ticket", "From POST /admin/feed-ticket; each lets one viewer in, once.", is_required=True),),
    ),
    "/health": Operation(summary="Whether the process is alive: always 200", answers=(Health,)),
    "/ready": Operation(
        summary="Whether a request could be served now, and why not", answers=(Ready,), statuses=(200, 503)
    ),
    "/metrics": Operation(
        summary="Metrics for Prometheus, in OpenMetrics when Accept asks for it",
        content_types=("text/plain", "application/openmetrics-text"),
    ),
    "/v1/stats": Operation(summary="What each backend and each model has done since the start", answers=(Stats,)),
    "/v1/history": Operation(
        summary="The last exchanges, newest first",
        answers=(tuple[HistoryEntry, ...],),
        refusals=(400,),
        query=(
            _MODEL,
            Parameter("backend", "Name or id of the one asked last; none for those that nobody was asked for."),
            Parameter(
                "status",
                "success, error, 2xx, 3xx, 4xx, 5xx, or a number.",
                {"type": "string", "pattern": "^(success|error|[2345]xx|[0-9]{3})$"},
            ),
            Parameter("since", "Unix seconds or RFC 3339.", {"anyOf": [{"type": "number"}, _INSTANT]}),
            Parameter("until", "Unix seconds or RFC 3339.", {"anyOf": [{"type": "number"}, _INSTANT]}),
            _limit(MOST_ENTRIES),
        ),
    ),
    EXPLAIN_PATH: Operation(
        summary="What would be decided about a request, and why; its body is the request's",
        answers=(Explanation,),
        refusals=(400, 413, 415),
        query=(
            Parameter(
                "endpoint",
                "For which endpoint, by its path or its name; else the chat of the client's protocol.",
                {"enum": sorted([*ENDPOINTS, *(endpoint.name for endpoint in ENDPOINTS.values())])},
            ),
        ),
        body=MAYBE_NAMED_MODEL,
    ),
    DECISIONS_PATH: Operation(
        summary="What was decided about the last requests, newest first",
        answers=(Listing,),
        refusals=(400,),
        query=(
            _MODEL,
            _BACKEND,
            Parameter("status", "What the client was sent.", _STATUS),
            Parameter("decision", "What was decided last.", {"enum": _DECISIONS}),
            _limit(MOST_RECORDS),
        ),
    ),
    f"{DECISIONS_PATH}/": Operation(
        summary="All about one decision",
        answers=(Explanation,),
        refusals=(404,),
        below=(
            Parameter(
                "id", "The id that Nexus gave the request: request_id in the log, X-Nexus-Decision-Id of the answer."
            ),
        ),
    ),
    "/v1/models": Operation(
        summary="The models of the whole fleet, in the shape of the client's protocol",
        answers=(OpenAIModels, AnthropicModels),
    ),
    "/v1/models/": Operation(
        summary="One model",
        answers=(OpenAIModel, AnthropicModel),
        refusals=(404,),
        below=(Parameter("model", "Its name, with the slashes that it has."),),
    ),
    "/api/tags": Operation(summary="The models of the whole fleet, for Ollama's clients", answers=(OllamaTags,)),
    "/api/ps": Operation(summary="The models that can be asked for now", answers=(OllamaRunningModels,)),
    "/api/show": Operation(
        summary="One model, for Ollama's clients",
        answers=(OllamaShown,),
        refusals=(400, 404, 413),
        body=NAMED_MODEL,
    ),
    "/api/version": Operation(summary="Which version of Ollama's API is spoken", answers=(OllamaVersion,)),
    "/admin/overview": Operation(summary="All that the dashboard shows", answers=(dict[str, Any],)),
    "/admin/plugins": Operation(summary="Every plugin, and what it contributes", answers=(dict[str, Any],)),
    CONFIG_PATH: Operation(summary="Every key that is in force, and what set it; no secret", answers=(ConfigView,)),
    "/admin/backends": Operation(summary="All that routing believes of each backend", answers=(FleetView,)),
    BACKENDS_PATH: Operation(
        summary="Drain a backend or put it back into service; approve or reject one that announced itself",
        answers=(Drained,),
        refusals=(400, 404, 503),
        below=(
            Parameter("name", "The backend's."),
            Parameter("action", "What to do.", {"enum": ["drain", "undrain", "approve", "reject"]}),
        ),
    ),
    "/admin/feed-ticket": Operation(
        summary="A ticket for the live feed, good for half a minute", answers=(dict[str, str],)
    ),
    OPENAPI_PATH: Operation(summary="This description", answers=(dict[str, Any],)),
}
"""By the path of the route; all files of the dashboard are one."""


_TABLE: Final[Schema] = {
    "type": "object",
    "description": "The keys of one [[backends]] table, and persist: whether it is kept over a restart.",
    "properties": {
        "name": {"type": "string"},
        "url": {"type": "string"},
        "persist": {"type": ["boolean", "null"]},
    },
}

OPERATIONS_OF_METHODS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/admin/backends"): Operation(
        summary="Add a backend while the proxy runs",
        answers=(AddedView,),
        statuses=(201,),
        refusals=(400, 403, 413, 503),
        body={**_TABLE, "required": ["name", "url"]},
    ),
    ("PATCH", BACKENDS_PATH): Operation(
        summary="Change keys of a backend that was added like this; null takes a key away",
        answers=(AddedView,),
        refusals=(400, 403, 404, 413, 503),
        below=(Parameter("name", "The backend's."),),
        body=_TABLE,
    ),
    ("DELETE", BACKENDS_PATH): Operation(
        summary="Remove a backend that was added like this, or reject one that announced itself",
        answers=(Removed,),
        refusals=(400, 403, 404, 503),
        below=(Parameter("name", "The backend's."),),
    ),
}
"""Of paths at which methods differ, those that differ from what :data:`OPERATIONS` says."""


def operation_at(path: str, method: str = "GET") -> Operation:
    """Return what is said about the route of *path*: pages of plugins are described by their plugin's name."""
    if (method, path) in OPERATIONS_OF_METHODS:
        return OPERATIONS_OF_METHODS[method, path]
    if path in OPERATIONS:
        return OPERATIONS[path]
    if path.startswith("/assets/"):
        return OPERATIONS["/assets/"]
    _, _, plugin, *_ = path.split("/")
    return Operation(summary=f"A page of the plugin {plugin}", content_types=("*/*",), statuses=(200, 500))
