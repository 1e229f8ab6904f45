"""What one mDNS service says of itself. None of it is trusted: names are cut, addresses checked, hints only hints."""

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import msgspec

from nexus.config.rules.urls import normalised
from nexus.fleet.discovery.approval.trust import is_worth_a_look
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.kinds import KINDS
from nexus.fleet.untrusted import MAX_NAME_LENGTH

MAX_ADDRESSES: Final = 16
KIND_OF_TYPE: Final[Mapping[str, str]] = {"_ollama": "ollama", "_vllm": "vllm", "_lmstudio": "lmstudio"}
"""What a service type says of the kind; the server's answers decide."""


class Resolved(Protocol):
    """What zeroconf has resolved."""

    type: str
    name: str
    server: str | None
    port: int | None

    @property
    def decoded_properties(self) -> Mapping[str, str | None]: ...

    def parsed_scoped_addresses(self) -> list[str]: ...


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a service."""

    name: str
    """Its label, such as ``desk`` of ``desk._ollama._tcp.local.``, in printable characters."""
    host: str
    """The machine's name, without the final dot."""
    port: int
    addresses: tuple[str, ...]
    """To be tried in this order; a link-local one has its interface behind a ``%``."""
    kind: str = "auto"
    path: str = ""
    is_tls: bool = False

    @property
    def address(self) -> str:
        """The one that answered last, or else the first."""
        return self.addresses[0]

    def preferring(self, address: str) -> "Announced":
        """Return it with *address*, if it has it, before all others."""
        if address not in self.addresses or address == self.addresses[0]:
            return self
        rest = tuple(other for other in self.addresses if other != address)
        return msgspec.structs.replace(self, addresses=(address, *rest))

    def keeping(self, addresses: Iterable[str]) -> "Announced":
        """Return it with *addresses* before its own."""
        return msgspec.structs.replace(self, addresses=tuple(dict.fromkeys((*addresses, *self.addresses))))

    def url_at(self, address: str) -> str:
        """Return the URL of the server at *address*."""
        host = f"[{address.replace('%', '%25')}]" if ":" in address else address
        url = f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.path}"
        try:
            return normalised(url)
        except ValueError:
            # Refused where it would be used.
            return url

    def discovered(self, name: str | None = None) -> Discovered:
        """Return what the fleet is told of it, under *name* or its own."""
        return Discovered(name or self.name, self.url_at(self.address), self.kind, self.host)


def announced(info: Resolved) -> Announced | None:
    """Return what *info* says, None when it names no port or no acceptable address."""
    if not info.port or not 0 < info.port < 65536:
        return None
    told = map(_with_interface_name, info.parsed_scoped_addresses()[:MAX_ADDRESSES])
    addresses = sorted(dict.fromkeys(told), key=_last_resort)
    hints = {key.lower(): value or "" for key, value in info.decoded_properties.items()}
    found = Announced(
        name=label_of(info.name, info.type),
        host=_plain((info.server or "").rstrip(".")),
        port=info.port,
        addresses=tuple(addresses),
        kind=_kind(info.type, hints),
        path=_path(hints.get("path", "")),
        is_tls=hints.get("tls", "").lower() in {"1", "true", "yes"},
    )
    acceptable = tuple(a for a in found.addresses if is_worth_a_look(Discovered(found.name, found.url_at(a))))
    return msgspec.structs.replace(found, addresses=acceptable) if acceptable else None


def label_of(name: str, service_type: str) -> str:
    """Return what the service of the full name *name* is called, in printable characters."""
    return _plain(name.removesuffix(f".{service_type}")) or "unnamed"


def full_types(types: Iterable[str]) -> tuple[str, ...]:
    """Return service types as DNS writes them: ``_ollama._tcp`` becomes ``_ollama._tcp.local.``."""
    completed = (kind.rstrip(".") for kind in types)
    return tuple(dict.fromkeys(f"{kind.removesuffix('.local')}.local." for kind in completed))


def _kind(service_type: str, hints: Mapping[str, str]) -> str:
    said = hints.get("type") or hints.get("api") or KIND_OF_TYPE.get(service_type.partition(".")[0], "")
    return said.lower() if said.lower() in KINDS else "auto"


def _path(hint: str) -> str:
    is_plain = hint.startswith("/") and len(hint) <= MAX_NAME_LENGTH and hint.isascii() and hint.isprintable()
    return hint.rstrip("/") if is_plain and not set(hint) & set(' ?#\\"<>') and ".." not in hint else ""


def _plain(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:63]


def _with_interface_name(address: str) -> str:
    """Return a link-local *address* with the name of its interface; the number changes when it is replugged."""
    host, percent, scope = address.partition("%")
    if not scope.isdigit():
        return address
    try:
        return f"{host}{percent}{socket.if_indextoname(int(scope))}"
    except (OSError, OverflowError):
        return address


def _last_resort(address: str) -> tuple[bool, bool, str]:
    """Sort link-local addresses last, and those of the Internet behind those of the house."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return parsed.is_link_local, not parsed.is_private, address
