"""Asks a proxy that runs what it would decide: it knows what its fleet is doing now, as no look from outside does."""

import http.client
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from nexus.config.schema import ServerConfig
from nexus.config.secrets import Secret
from nexus.domain.request import Endpoint
from nexus.errors import NexusError
from nexus.routing.explanation import Explanation

CONNECT_S: Final = 2.0
ANSWER_S: Final = 30.0
VERSION_HEADER: Final = "X-Nexus-Version"

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound
"""Where a proxy is found that listens on all addresses."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is to be explained."""

    endpoint: Endpoint
    content_type: bytes
    body: bytes
    hints: Mapping[str, str]


class NotThere(NexusError):
    """Nobody is there who could be asked; the text says why."""


def address_of(server: ServerConfig) -> str:
    """Return the URL at which a proxy with this configuration listens."""
    host = _ANY.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def ask(url: str, key: Secret | None, question: Question) -> Explanation:
    """Return what the proxy at *url* says.

    :raises NotThere: there is none, or it cannot or will not say.
    :raises NexusError: it refuses the request that is to be explained.
    """
    # The key is for Nexus alone: who else may listen there is found out without it.
    version = _call(url, "GET", "/health", {})[1].get(VERSION_HEADER)
    if version is None:
        raise NotThere(f"what listens at {url} is no Nexus")
    path = f"/v1/route/explain?endpoint={quote(question.endpoint.path)}"
    status, _, body = _call(url, "POST", path, _headers(question, key), question.body)
    if status == http.client.OK:
        return _explanation(url, version, body)
    code, message = _error(body)
    if code == "invalid_api_key":
        raise NotThere(f"the proxy at {url} asks for a key: --api-key env:NAME")
    if code in ("method_not_allowed", "not_found"):
        raise NotThere(f"the proxy at {url} is Nexus {version}, which cannot explain")
    raise NexusError(f"the proxy at {url} refuses such a request: {status} {code}: {message}")


def _headers(question: Question, key: Secret | None) -> dict[str, str]:
    headers = {"Content-Type": question.content_type.decode("latin-1"), **question.hints}
    if key is not None:
        headers["Authorization"] = f"Bearer {key.reveal()}"
    return headers


def _call(
    url: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    parts = urlsplit(url)
    connection = _CONNECTIONS[parts.scheme](parts.hostname or "", parts.port, timeout=CONNECT_S)
    try:
        connection.connect()
        connection.sock.settimeout(ANSWER_S)
        connection.request(method, parts.path + path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except (OSError, http.client.HTTPException) as exc:
        raise NotThere(f"nobody answers at {url}: {getattr(exc, 'strerror', None) or exc}") from exc
    finally:
        connection.close()


_CONNECTIONS: Final[Mapping[str, Callable[..., http.client.HTTPConnection]]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}


def _explanation(url: str, version: str, body: bytes) -> Explanation:
    try:
        return msgspec.json.decode(body, type=Explanation)
    except msgspec.DecodeError as exc:
        raise NotThere(f"the proxy at {url} is Nexus {version}, whose answer this one cannot read") from exc


def _error(body: bytes) -> tuple[str, str]:
    """Return code and message of an error in any protocol."""
    try:
        document: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return "unknown", body[:200].decode(errors="replace")
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict):
        return str(error.get("code")), str(error.get("message"))
    return (str(document.get("code")), str(error)) if isinstance(document, dict) else ("unknown", str(document)[:200])
