"""A page as one value: its route and its description for OpenAPI."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from nexus.domain.routes import PageRoute, SocketRoute

JSON: Final = "application/json"

Schema = Mapping[str, Any]

OPTIONAL_MODEL: Final[Schema] = {"type": "object", "properties": {"model": {"type": ["string", "null"]}}}
"""The body of a request to a model; without a name, the default model is used."""


class Parameter(msgspec.Struct, frozen=True):
    """One parameter in a path or a query."""

    name: str
    meaning: str
    schema: Schema | None = None
    """None: any text."""
    is_required: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What a method does at one path."""

    summary: str
    answers: tuple[Any, ...] = ()
    """The types of the possible JSON bodies; empty: any body of one of :attr:`content_types`."""
    content_types: tuple[str, ...] = (JSON,)
    statuses: tuple[int, ...] = (200,)
    """The statuses of a success."""
    refusals: tuple[int, ...] = ()
    """The statuses of errors, besides those that any request may get."""
    below: tuple[Parameter, ...] = ()
    """What follows a path that stands for all below it."""
    query: tuple[Parameter, ...] = ()
    body: Schema | None = None


class DescribedRoute(PageRoute, frozen=True, kw_only=True):
    """A page: its path and methods, the function that responds, and what OpenAPI says about it."""

    operation: Operation
    other_operations: Mapping[str, Operation] = {}
    """By method, those that :attr:`operation` does not describe."""

    def operation_of(self, method: str) -> Operation:
        """Return the description of *method*."""
        return self.other_operations.get(method, self.operation)


class DescribedSocket(SocketRoute, frozen=True, kw_only=True):
    """A WebSocket and its description."""

    operation: Operation


MODEL_FILTER: Final = Parameter("model", "As the client sent it, or as Nexus sent it to a backend.")


def limit(most: int) -> Parameter:
    """Return the parameter that limits a list to at most *most* entries."""
    return Parameter("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": most})
