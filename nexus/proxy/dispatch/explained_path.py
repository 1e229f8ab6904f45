"""Finds the endpoint of a request that is only to be explained."""

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
    """Return the endpoint whose path or name is in *query*, by default the chat of the client's protocol.

    :raises RequestError: there is no such endpoint.
    """
    named = parse_qs(query).get("endpoint", [])
    if not named:
        return MESSAGES if is_anthropic else CHAT
    found = ENDPOINTS.get(named[0]) or _BY_NAME.get(named[0])
    if found is None or len(named) > 1:
        hint = did_you_mean(named[0][:100], (*ENDPOINTS, *_BY_NAME))
        raise RequestError("invalid_value", f"'endpoint' is one path or name of an endpoint{hint}", param="endpoint")
    return found


def spoken_path(path: str, query: str, *, is_anthropic: bool) -> str:
    """Return the path whose protocol an error at *path* is sent in."""
    if path != EXPLAIN_PATH:
        return path
    try:
        return explained_endpoint(query, is_anthropic=is_anthropic).path
    except RequestError:
        return path
