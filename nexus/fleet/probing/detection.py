"""Detects the kind of a server by harmless requests, in an order that tells similar servers apart."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from nexus.fleet.fetching import Fetcher, FetchResponse, Target
from nexus.fleet.models.reading import first_text, json_object

NEXUS_HEADER: Final = "X-Nexus-Version"
"""Sent in each response of a Nexus, which is never added as a backend by discovery."""


_OVERLOADED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, *range(HTTPStatus.INTERNAL_SERVER_ERROR, 600)})
"""Statuses that may be temporary: a later request to the same path may succeed."""


class Clue(msgspec.Struct, frozen=True):
    """One request, and the kind that its response shows."""

    path: str
    kind_of: Callable[[FetchResponse], str | None]


class Detection(msgspec.Struct, frozen=True):
    """What the requests have shown."""

    kind: str | None
    """None if the server is of no known kind, or refuses the requests."""
    status: int
    """Of the last response."""
    is_nexus: bool = False
    is_certain: bool = True
    """False if the server was overloaded at an earlier request, which might have shown another kind."""


async def detect(fetcher: Fetcher, target: Target) -> Detection:
    """Detect the kind of the server at *target*. :raises FetchError: it does not respond."""
    if kind := cloud_at(target.url):
        return Detection(kind, 0)
    status = 0
    is_certain = True
    for clue in CLUES:
        response = await fetcher.get(target, clue.path)
        if NEXUS_HEADER in response.headers:
            return Detection("generic", response.status, is_nexus=True)
        if kind := clue.kind_of(response):
            return Detection(kind, response.status, is_certain=is_certain)
        status = response.status
        is_certain = is_certain and status not in _OVERLOADED
    return Detection(None, status)


def _ollama(response: FetchResponse) -> str | None:
    return "ollama" if first_text(_object(response), "version") else None


def _llamacpp(response: FetchResponse) -> str | None:
    # Its key protects /props, and everything is 503 while it loads, but the Server header is always sent.
    is_llamacpp = response.headers.get("Server", "") == "llama.cpp" or "build_info" in _object(response)
    return "llamacpp" if is_llamacpp else None


def _by_owner(response: FetchResponse) -> str | None:
    rows = _object(response).get("data")
    owners = {row.get("owned_by") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
    return next((kind for kind in ("vllm", "sglang") if kind in owners), None)


def _sglang(response: FetchResponse) -> str | None:
    return "sglang" if "model_path" in _object(response) else None


def _lmstudio(response: FetchResponse) -> str | None:
    # It responds with 200 to every path, so the shape must be right.
    return "lmstudio" if isinstance(_object(response).get("models"), list) else None


def _old_lmstudio(response: FetchResponse) -> str | None:
    return "lmstudio" if isinstance(_object(response).get("data"), list) else None


def _exo(response: FetchResponse) -> str | None:
    # A web application may respond to every path with its page.
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    return "exo" if response.is_success and is_json and "error" not in _object(response) else None


def _generic(response: FetchResponse) -> str | None:
    return "generic" if isinstance(_object(response).get("data", ...), list | None) else None


def _object(response: FetchResponse) -> Mapping[str, Any]:
    if not response.is_success:
        return {}
    try:
        return json_object(response.body)
    except ValueError:
        return {}


CLUES: Final = (
    Clue("/api/version", _ollama),
    Clue("/props", _llamacpp),
    Clue("/v1/models", _by_owner),
    Clue("/model_info", _sglang),
    Clue("/api/v1/models", _lmstudio),
    Clue("/api/v0/models", _old_lmstudio),
    Clue("/node_id", _exo),
    # Again, because the server may have been overloaded the first time.
    Clue("/v1/models", lambda response: _by_owner(response) or _generic(response)),
)

CLOUD_HOSTS: Final[Mapping[str, str]] = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "generativelanguage.googleapis.com": "google",
}
"""Clouds that are recognised by their host name, without a request."""

_CLOUD_DOMAINS: Final[Mapping[str, str]] = {".openai.azure.com": "azure"}
"""Those with a host for each customer."""


def cloud_at(url: str) -> str | None:
    """Return the kind of the cloud at *url*; None if it is no known cloud."""
    host = urlsplit(url).hostname or ""
    domains = (kind for domain, kind in _CLOUD_DOMAINS.items() if host.endswith(domain))
    return CLOUD_HOSTS.get(host) or next(domains, None)
