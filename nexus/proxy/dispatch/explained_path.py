"""For which endpoint a request is to be explained: it is understood, and refused, as a request there would be."""

from typing import Final
from urllib.parse import parse_qs

from nexus.domain.request import Endpoint
from nexus.errors import RequestError, did_you_mean
from nexus.wire.protocols import ENDPOINTS

EXPLAIN_PATH: Final = "/v1/route/explain"

CHAT: Final = ENDPOINTS["/v1/chat/completions"]
MESSAGES: Final = ENDPOINTS["/v1/messages"]

_BY_NAME: Final = {endpoint.name: endpoint for endpoint in ENDPOINTS.values()}


def explained_endpoint(query: str, *, is_anthropic: bool) -> Endpoint:
    """Return the endpoint that *query* says, by its path or its name, or else the chat of the client's protocol.

    :raises RequestError: there is no such endpoint.
    """
    named = parse_qs(query).get("endpoint", [])
    if not named:
        return MESSAGES if is_anthropic else CHAT
    found = ENDPOINTS.get(named[0]) or _BY_NAME.get(named[0])
    if found is None or len(named) > 1:
        known = (*ENDPOINTS, *_BY_NAME)
        hint = did_you_mean(named[0][:100], known)
        raise RequestError("invalid_value", f"'endpoint' is one path or name of an endpoint{hint}", param="endpoint")
    return found


def spoken_path(path: str, query: str, *, is_anthropic: bool) -> str:
    """Return the path in whose protocol a client that asks for *path* is answered when something is wrong."""
    if path != EXPLAIN_PATH:
        return path
    try:
        return explained_endpoint(query, is_anthropic=is_anthropic).path
    except RequestError:
        return path
