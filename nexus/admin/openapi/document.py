"""Builds ``/openapi.json`` from the routes in force."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

import msgspec

from nexus import __version__
from nexus.admin.openapi.operation import JSON, OPTIONAL_MODEL, DescribedRoute, DescribedSocket, Operation, Parameter
from nexus.admin.page import json_page
from nexus.config.schema import ServerConfig
from nexus.domain.request import Endpoint
from nexus.domain.routes import Access, Page, PageRequest
from nexus.proxy.dispatch.explained_path import EXPLAIN_PATH
from nexus.wire.anthropic.errors import AnthropicError
from nexus.wire.ollama.errors import OllamaError
from nexus.wire.openai.errors import OpenAIError
from nexus.wire.protocols import EVERY, PROTOCOLS

Document = dict[str, Any]

OPENAPI_PATH: Final = "/openapi.json"

TAGS: Final[Mapping[str, str]] = {
    "carried": "Carried to a backend that speaks the protocol natively; bodies pass byte for byte, both ways, and are"
    " what the protocol and the backend say.",
    "answered": "Answered by Nexus.",
    "administration": "Answered by Nexus, with an administrator's key where server.admin_keys is set.",
}
SCHEMES: Final[Mapping[str, Document]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key of server.api_keys or server.admin_keys."},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same key."},
}
ERRORS: Final = {"openai": OpenAIError, "ollama": OllamaError, "anthropic": AnthropicError}
SHARED: Final = (OpenAIError, AnthropicError)
"""At paths shared by two protocols, each client gets errors in its own."""


def openapi_route(
    routes: tuple[DescribedRoute, ...], sockets: tuple[DescribedSocket, ...], server: ServerConfig
) -> DescribedRoute:
    """Return the page that describes *routes*, *sockets*, the endpoints of backends, and itself."""

    @cache
    def document() -> Page:
        return json_page(describe((*routes, route), sockets, guarded=_guarded(server)))

    def respond(_: PageRequest) -> Page:
        return document()

    route = DescribedRoute(
        path=OPENAPI_PATH,
        respond=respond,
        operation=Operation(summary="This description", answers=(dict[str, Any],)),
    )
    return route


def _guarded(server: ServerConfig) -> frozenset[Access]:
    if server.api_keys:
        return frozenset({"client", "admin"})
    return frozenset({"admin"} if server.admin_keys else ())


def describe(
    routes: Iterable[DescribedRoute], sockets: Iterable[DescribedSocket], *, guarded: frozenset[Access]
) -> Document:
    """Return the whole description.

    :param guarded: the kinds of access that need a key.
    """
    paths: dict[str, Document] = {}
    schemas = _Schemas(guarded=guarded)
    for endpoint in sorted(EVERY, key=lambda endpoint: endpoint.path):
        for method in endpoint.methods:
            # At a path shared by two protocols, the first description stands for both.
            paths.setdefault(_numbered(endpoint.path), {}).setdefault(method.lower(), schemas.carried(endpoint, method))
    for route in routes:
        for method in sorted(route.methods):
            operation = route.operation_of(method)
            described = schemas.answered(route.path, operation, route.access, method)
            paths.setdefault(_template(route.path, operation), {})[method.lower()] = described
    for socket in sockets:
        paths[socket.path] = {"get": schemas.answered(socket.path, socket.operation, "open", "GET")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Nexus",
            "version": __version__,
            "description": "A drop-in proxy for a fleet of LLM servers.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": meaning} for name, meaning in TAGS.items()],
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas.components(), "securitySchemes": SCHEMES},
    }


def _numbered(path: str) -> str:
    """Return *path* with a distinct name for each ``{id}``."""
    first, *more = path.split("{id}")
    names = ("{id}", "{item}")
    return first + "".join(name + part for name, part in zip(names, more, strict=False))


def _template(path: str, operation: Operation) -> str:
    return path + "/".join(f"{{{parameter.name}}}" for parameter in operation.below)


class _Schemas:
    """Describes operations, and collects the types that they refer to."""

    def __init__(self, *, guarded: frozenset[Access]) -> None:
        self._guarded = guarded
        self._types: list[Any] = list(ERRORS.values())

    def components(self) -> Document:
        """Return the schemas of all types that operations refer to."""
        _, components = msgspec.json.schema_components(self._types, ref_template=_REFERENCE)
        return components

    def carried(self, endpoint: Endpoint, method: str) -> Document:
        """Describe *method* of an endpoint that backends serve."""
        body_type = JSON if endpoint.body == "json" else "multipart/form-data"
        schema = OPTIONAL_MODEL if endpoint.model != "none" else {"type": "object"}
        stream_type = PROTOCOLS[endpoint.protocol].stream_type
        error = ERRORS[endpoint.protocol].__name__
        operation: Document = {
            "operationId": endpoint.name if len(endpoint.methods) == 1 else f"{endpoint.name}.{method.lower()}",
            "summary": f"{endpoint.name}, as clients of {endpoint.protocol} call it",
            "tags": ["carried"],
            "security": self._security("client"),
            "parameters": [
                _parameter(Parameter(name, "As an answer of the backend named it."), "path")
                for name in re.findall(r"\{(\w+)\}", _numbered(endpoint.path))
            ],
            "responses": {
                "200": {"description": "The backend's answer.", "content": {JSON: {}, stream_type: {}, "*/*": {}}},
                "4XX": _error(error, "The request is invalid or cannot be served, or no backend has the model"),
                "5XX": _error(error, "No backend can answer now"),
            },
        }
        if method == "POST":
            is_asked = endpoint.model == "body"
            operation["requestBody"] = {"required": is_asked, "content": {body_type: {"schema": schema}}}
        return operation

    def answered(self, path: str, operation: Operation, access: Access, method: str) -> Document:
        """Describe *method* of a page."""
        name = re.sub(r"[^a-z0-9]+", "_", _template(path, operation).lower()).rstrip("_")
        document: Document = {
            "operationId": f"{method.lower()}{name}",
            "summary": operation.summary,
            "tags": ["administration" if access == "admin" else "answered"],
            "security": self._security(access),
            "parameters": [
                *(_parameter(parameter, "path") for parameter in operation.below),
                *(_parameter(parameter, "query") for parameter in operation.query),
            ],
            "responses": dict(self._responses(path, operation, access, is_head=method == "HEAD")),
        }
        if operation.body is not None:
            document["requestBody"] = {"required": True, "content": {JSON: {"schema": operation.body}}}
        return document

    def _responses(
        self, path: str, operation: Operation, access: Access, *, is_head: bool
    ) -> Iterator[tuple[str, Document]]:
        content = (
            self._content(operation.answers) if operation.answers else {name: {} for name in operation.content_types}
        )
        for status in operation.statuses:
            yield str(status), _response(status, {} if is_head or status < 200 else content)
        error = {} if is_head else self._content(_errors_at(path))
        refused = {*operation.refusals, 401} if access in self._guarded else {*operation.refusals}
        for status in sorted(refused):
            yield str(status), _response(status, error)
        yield (
            "default",
            {"description": "Refused before it is processed; the reference of errors has the codes.", "content": error},
        )

    def _content(self, types: tuple[Any, ...]) -> Document:
        self._types += [type_ for type_ in types if type_ not in self._types]
        schemas, _ = msgspec.json.schema_components(types, ref_template=_REFERENCE)
        return {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}}}

    def _security(self, access: Access) -> list[dict[str, list[str]]]:
        return [{name: []} for name in SCHEMES] if access in self._guarded else []


_REFERENCE: Final = "#/components/schemas/{name}"


def _errors_at(path: str) -> tuple[Any, ...]:
    if path == EXPLAIN_PATH:
        return tuple(ERRORS.values())
    return (OllamaError,) if path.startswith("/api/") else SHARED


def _error(error: str, what: str) -> Document:
    """Describe an error of Nexus or of the backend, which may have any shape."""
    return {"description": f"{what}, as the backend says it, or Nexus ({error}).", "content": {JSON: {}}}


def _response(status: int, content: Document) -> Document:
    return {"description": HTTPStatus(status).phrase, "content": content}


def _parameter(parameter: Parameter, place: str) -> Document:
    return {
        "name": parameter.name,
        "in": place,
        "description": parameter.meaning,
        "required": parameter.is_required or place == "path",
        "schema": parameter.schema or {"type": "string"},
    }
