"""Finding out of which kind a server is, by harmless questions in the one order that tells look-alikes apart."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from nexus.fleet.fetching import Fetcher, FetchResponse, Target
from nexus.fleet.models.reading import first_text, json_object

NEXUS_HEADER: Final = "X-Nexus-Version"
"""Each answer of a Nexus has it; one that looks for servers leaves others of its kind alone."""


_OVERLOADED: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, *range(HTTPStatus.INTERNAL_SERVER_ERROR, 600)})
"""What a server may answer at one moment to a question that it answers at another."""


class Clue(msgspec.Struct, frozen=True):
    """One question, and which kind its answer gives away."""

    path: str
    kind_of: Callable[[FetchResponse], str | None]


class Detection(msgspec.Struct, frozen=True):
    """What the questions have shown."""

    kind: str | None
    """None when the server is none that we know, or does not let us look."""
    status: int
    """Of the last answer."""
    is_nexus: bool = False
    is_certain: bool = True
    """False when it was overloaded at an earlier question, whose answer might have shown another kind."""


async def detect(fetcher: Fetcher, target: Target) -> Detection:
    """Find out the kind of the server at *target*. :raises FetchError: when it does not answer at all."""
    if kind := CLOUD_HOSTS.get(urlsplit(target.url).hostname or ""):
        return Detection(kind, 0)
    status = 0
    is_certain = True
    for clue in CLUES:
        answer = await fetcher.get(target, clue.path)
        if NEXUS_HEADER in answer.headers:
            return Detection("generic", answer.status, is_nexus=True)
        if kind := clue.kind_of(answer):
            return Detection(kind, answer.status, is_certain=is_certain)
        status = answer.status
        is_certain = is_certain and status not in _OVERLOADED
    return Detection(None, status)


def _ollama(answer: FetchResponse) -> str | None:
    return "ollama" if first_text(_object(answer), "version") else None


def _llamacpp(answer: FetchResponse) -> str | None:
    # Its key guards /props, and while it loads all is 503: the Server header tells in each case.
    is_it = answer.headers.get("Server", "") == "llama.cpp" or "build_info" in _object(answer)
    return "llamacpp" if is_it else None


def _by_owner(answer: FetchResponse) -> str | None:
    rows = _object(answer).get("data")
    owners = {row.get("owned_by") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
    return next((kind for kind in ("vllm", "sglang") if kind in owners), None)


def _sglang(answer: FetchResponse) -> str | None:
    return "sglang" if "model_path" in _object(answer) else None


def _lmstudio(answer: FetchResponse) -> str | None:
    # It answers 200 to any path at all, so the shape must be right.
    return "lmstudio" if isinstance(_object(answer).get("models"), list) else None


def _old_lmstudio(answer: FetchResponse) -> str | None:
    return "lmstudio" if isinstance(_object(answer).get("data"), list) else None


def _exo(answer: FetchResponse) -> str | None:
    # A web application may answer any path with its page.
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    return "exo" if answer.is_success and is_json and "error" not in _object(answer) else None


def _generic(answer: FetchResponse) -> str | None:
    return "generic" if isinstance(_object(answer).get("data", ...), list | None) else None


def _object(answer: FetchResponse) -> Mapping[str, Any]:
    if not answer.is_success:
        return {}
    try:
        return json_object(answer.body)
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
    # At the first time it may have been overloaded.
    Clue("/v1/models", lambda answer: _by_owner(answer) or _generic(answer)),
)

CLOUD_HOSTS: Final[Mapping[str, str]] = {"api.openai.com": "openai", "api.anthropic.com": "anthropic"}
"""Clouds that are known by their address and need not be asked."""
