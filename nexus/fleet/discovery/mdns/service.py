"""Validates what an mDNS service announces: names are cut, addresses checked, and hints are only hints."""

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from nexus.config.rules.urls import normalised
from nexus.fleet.discovery.approval.trust import may_be_probed
from nexus.fleet.discovery.discoverer import Discovered
from nexus.fleet.kinds import KINDS
from nexus.fleet.untrusted import MAX_NAME_LENGTH

if TYPE_CHECKING:
    from zeroconf import ServiceInfo

MAX_ADDRESSES: Final = 16
KIND_OF_TYPE: Final[Mapping[str, str]] = {"_ollama": "ollama", "_vllm": "vllm", "_lmstudio": "lmstudio"}
"""The kind that a service type suggests; the kind that is detected decides."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One announced instance of a service."""

    name: str
    """Its label, such as ``desk`` of ``desk._ollama._tcp.local.``, in printable characters."""
    host: str
    """The machine's name, without the trailing dot."""
    port: int
    addresses: tuple[str, ...]
    """In the order in which they are tried; a link-local one ends with ``%`` and its interface."""
    kind: str = "auto"
    path: str = ""
    is_tls: bool = False

    @property
    def address(self) -> str:
        """The one that accepted the last connection, or else the first."""
        return self.addresses[0]

    def preferring(self, address: str) -> "Service":
        """Return it with *address* first, if it is one of its addresses."""
        if address not in self.addresses or address == self.addresses[0]:
            return self
        rest = tuple(other for other in self.addresses if other != address)
        return msgspec.structs.replace(self, addresses=(address, *rest))

    def keeping(self, addresses: Iterable[str]) -> "Service":
        """Return it with *addresses* before its own."""
        return msgspec.structs.replace(self, addresses=tuple(dict.fromkeys((*addresses, *self.addresses))))

    def url_at(self, address: str) -> str:
        """Return the URL of the server at *address*."""
        host = f"[{address.replace('%', '%25')}]" if ":" in address else address
        url = f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.path}"
        try:
            return normalised(url)
        except ValueError:
            # An invalid URL is rejected where it is used.
            return url

    def discovered(self, name: str | None = None) -> Discovered:
        """Return the discovered server, under *name* or its own name."""
        return Discovered(name or self.name, self.url_at(self.address), self.kind, self.host)


def parse_service(info: "ServiceInfo") -> Service | None:
    """Return the service in *info*, None if it has no port or no acceptable address."""
    if not info.port or not 0 < info.port < 65536:
        return None
    named = map(_with_interface_name, info.parsed_scoped_addresses()[:MAX_ADDRESSES])
    addresses = sorted(dict.fromkeys(named), key=_reach)
    hints = {key.lower(): value or "" for key, value in info.decoded_properties.items()}
    found = Service(
        name=label_of(info.name, info.type),
        host=_plain((info.server or "").rstrip(".")),
        port=info.port,
        addresses=tuple(addresses),
        kind=_kind(info.type, hints),
        path=_path(hints.get("path", "")),
        is_tls=hints.get("tls", "").lower() in {"1", "true", "yes"},
    )
    acceptable = tuple(a for a in found.addresses if may_be_probed(Discovered(found.name, found.url_at(a))))
    return msgspec.structs.replace(found, addresses=acceptable) if acceptable else None


def label_of(name: str, service_type: str) -> str:
    """Return the label of the service with the full name *name*, in printable characters."""
    return _plain(name.removesuffix(f".{service_type}")) or "unnamed"


def full_types(types: Iterable[str]) -> tuple[str, ...]:
    """Return service types in the notation of DNS: ``_ollama._tcp`` becomes ``_ollama._tcp.local.``."""
    completed = (kind.rstrip(".") for kind in types)
    return tuple(dict.fromkeys(f"{kind.removesuffix('.local')}.local." for kind in completed))


def _kind(service_type: str, hints: Mapping[str, str]) -> str:
    kind = hints.get("type") or hints.get("api") or KIND_OF_TYPE.get(service_type.partition(".")[0], "")
    return kind.lower() if kind.lower() in KINDS else "auto"


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


def _reach(address: str) -> tuple[bool, bool, str]:
    """Sort private addresses before public ones, and link-local ones last."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return parsed.is_link_local, not parsed.is_private, address
