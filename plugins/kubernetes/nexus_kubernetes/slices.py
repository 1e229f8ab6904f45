"""EndpointSlices as the API server tells of them, whole and change by change."""

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

T = TypeVar("T")

UNREADABLE: Final = (ValueError, RecursionError)
"""What the decoder raises; the second, for what is nested too deep."""
MOST_BYTES_OF_AN_EVENT: Final = 16 * 2**20
"""etcd keeps no object above 1.5 MiB; what is far beyond that is no event."""


class ApiFailure(Exception):
    """The API server refuses, or says what cannot be understood; the text says why."""


class Conditions(msgspec.Struct, frozen=True):
    """None is unknown."""

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
    """All of one server: the first one is enough."""
    conditions: Conditions | None = None
    target_ref: TargetRef | None = None


class Port(msgspec.Struct, frozen=True):
    """Where all endpoints of a slice listen."""

    port: int | None = None
    """None: at any."""
    name: str | None = None
    protocol: str | None = None


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """What every object has."""

    name: str = ""
    resource_version: str = ""


class EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    """Some of the endpoints of one Service; those of one slice have the same ports and the same type of address."""

    metadata: Metadata
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] | None = None
    ports: tuple[Port, ...] | None = None


class View(msgspec.Struct, frozen=True):
    """All slices of one Service at one moment."""

    slices: Mapping[str, EndpointSlice]
    """By name."""
    version: str
    """From which changes can be watched."""

    @classmethod
    def listed(cls, answer: bytes) -> "View":
        """Return what a list says. :raises ApiFailure: it is none."""
        found = _decoded(answer, _SliceList)
        return cls({each.metadata.name: each for each in found.items or ()}, found.metadata.resource_version)

    def after(self, line: bytes) -> "View":
        """Return what follows from one event of a watch. :raises ApiFailure: it is an error, or cannot be read."""
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
    """Return why the API server refuses: what the ``Status`` says that it answers with, and *code* else."""
    try:
        status = msgspec.json.decode(answer, type=_Status)
    except UNREADABLE:
        status = _Status(message="the answer is no Status")
    said = ": ".join(filter(None, [str(status.code or code or ""), status.reason, status.message]))
    return said or "no reason is given"


class Lines:
    """Splits a stream into its lines, however the bytes are cut."""

    def __init__(self, most_bytes: int = MOST_BYTES_OF_AN_EVENT) -> None:
        self._pending = bytearray()
        self._most_bytes = most_bytes

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that *chunk* completes. :raises ApiFailure: one does not end."""
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = bytes(self._pending) + lines[0]
            self._pending.clear()
        self._pending += rest
        if len(self._pending) > self._most_bytes:
            raise ApiFailure(f"an event of the watch has more than {self._most_bytes} bytes")
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
