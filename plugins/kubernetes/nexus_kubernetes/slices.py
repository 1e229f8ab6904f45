"""EndpointSlices as the API server sends them: a list, then changes."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

UNREADABLE: Final = (ValueError, RecursionError)
"""Errors of the decoder; RecursionError if the JSON is nested too deeply."""
MAX_EVENT_BYTES: Final = 16 * 2**20
"""Far above the largest object that etcd keeps (1.5 MiB)."""


class ApiFailure(Exception):
    """The API server refused a request or sent an invalid answer."""


class Conditions(msgspec.Struct, frozen=True):
    """The conditions of an endpoint; None is unknown."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(msgspec.Struct, frozen=True, rename="camel"):
    """The object behind an endpoint, usually a pod."""

    name: str = ""
    uid: str = ""


class Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    """One server at one address."""

    addresses: tuple[str, ...] = ()
    """All belong to one server: the first one is enough."""
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None


class Port(msgspec.Struct, frozen=True):
    """A port of all endpoints of a slice."""

    port: int | None = None
    """None: any port."""
    name: str | None = None
    protocol: str | None = None


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The metadata of every object."""

    name: str = ""
    resource_version: str = ""


class EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    """Some of the endpoints of one Service, all with the same ports and type of address."""

    metadata: Metadata
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[Port, ...] | None = None


class View(msgspec.Struct, frozen=True):
    """All slices of one Service at one moment."""

    slices: Mapping[str, EndpointSlice]
    """By name."""
    version: str
    """The version from which changes can be watched."""

    @classmethod
    def listed(cls, answer: bytes) -> "View":
        """Decode a list. :raises ApiFailure: it is invalid."""
        found = _decoded(answer, _SliceList)
        return cls({each.metadata.name: each for each in found.items or ()}, found.metadata.resource_version)

    def after(self, line: bytes) -> "View":
        """Apply one event of a watch. :raises ApiFailure: it is an error or invalid."""
        event = _decoded(line, _Event)
        if event.type == "ERROR":
            raise ApiFailure(refusal(event.object))
        changed = _decoded(event.object, EndpointSlice)
        version = changed.metadata.resource_version or self.version
        match event.type:
            case "ADDED" | "MODIFIED":
                return View({**self.slices, changed.metadata.name: changed}, version)
            case "DELETED":
                left = {name: each for name, each in self.slices.items() if name != changed.metadata.name}
                return View(left, version)
            case "BOOKMARK":
                return View(self.slices, version)
            case _:
                raise ApiFailure(f"the watch has an event of the unknown type '{event.type[:40]}'")


def refusal(answer: bytes | msgspec.Raw, code: int = 0) -> str:
    """Return why the API server refused a request, from its ``Status`` or the HTTP status *code*."""
    try:
        status = msgspec.json.decode(answer, type=_Status)
    except UNREADABLE:
        status = _Status(message="the answer is no Status")
    said = ": ".join(filter(None, [str(status.code or code or ""), status.reason, status.message]))
    return said or "no reason is given"


class Lines:
    """Splits a stream into lines."""

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._pending = bytearray()
        self._max_bytes = max_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that *chunk* completes. :raises ApiFailure: a line is too long."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(self._pending) + lines[0]
            self._pending.clear()
        self._pending += rest
        if len(self._pending) > self._max_bytes:
            raise ApiFailure(f"an event of the watch has more than {self._max_bytes} bytes")
        return [line for line in lines if line.strip()]


class _SliceList(msgspec.Struct, frozen=True):
    metadata: Metadata
    items: tuple[EndpointSlice, ...] | None = None


class _Event(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct, frozen=True):
    code: int | None = None
    reason: str | None = None
    message: str | None = None


def _decoded(answer: bytes | msgspec.Raw, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(answer, type=type_)
    except UNREADABLE as exc:
        raise ApiFailure(f"the answer cannot be read: {exc}") from exc
