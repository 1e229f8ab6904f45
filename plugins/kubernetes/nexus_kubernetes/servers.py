"""Which servers the slices of a Service describe: decisions only."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, count
from typing import Final

import msgspec

from nexus.api import Discovered
from nexus_kubernetes.config import ServiceConfig
from nexus_kubernetes.slices import Conditions, Endpoint, EndpointSlice

FAMILIES: Final = ("IPv4", "IPv6", "FQDN")
"""The types of address, the preferred first: a pod with several addresses is one server."""

_PLAIN_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")


class Server(msgspec.Struct, frozen=True):
    """One server of a Service."""

    host: str
    """As in a URL: an IPv6 address has brackets."""
    port: int
    pod: str = ""
    """Empty if the endpoint is not a pod."""

    @property
    def identity(self) -> str:
        """Stays the same when conditions change or the endpoint moves to another slice."""
        return self.pod or f"{self.host}:{self.port}"


class Reading(msgspec.Struct, frozen=True):
    """The result of reading all slices of one Service."""

    servers: tuple[Server, ...] = ()
    problem: str = ""
    """Why there are no servers, or fewer than possible; empty if there is no problem."""
    mentioned: frozenset[str] = frozenset()
    """The identities of all endpoints, whatever their conditions."""
    vanished: Mapping[Server, float] = {}
    """Servers that are kept for a while although they are in no slice, with the time at which they vanished."""


def read(service: ServiceConfig, slices: Iterable[EndpointSlice]) -> Reading:
    """Return the servers of *service* that are ready, each once.

    If none is ready, those that are terminating and still serve are included, as Kubernetes does (KEP-1669).
    """
    in_order = sorted(slices, key=lambda s: (_rank(s.address_type), s.metadata.name))
    if not in_order:
        return Reading(problem="the API server knows no EndpointSlice of it: see its name and namespace")
    ready: dict[str, Server] = {}
    last: dict[str, Server] = {}
    problems = []
    mentioned = set()
    for each in in_order:
        endpoints = each.endpoints or ()
        port = port_of(each, service.port)
        if port is None and endpoints:
            problems.append(_port_problem(each, service.port))
        for endpoint in endpoints if port is not None else ():
            chosen = ready if is_ready(endpoint.conditions) else last if is_last_resort(endpoint.conditions) else None
            host = _host(each.address_type, endpoint)
            if not host or port is None:
                continue
            server = Server(host, port, _pod(endpoint))
            mentioned.add(server.identity)
            if chosen is not None:
                chosen.setdefault(_identity(endpoint, server), server)
    servers = _in_order((ready or last).values())
    if not servers and not problems:
        problems.append("none of its endpoints is ready")
    return Reading(servers, problems[0] if problems else "", frozenset(mentioned))


def with_vanished(
    reading: Reading, before: Reading | None, *, now: float, hold_s: float
) -> tuple[Reading, float | None]:
    """Return *reading* with the servers of *before* that vanished less than *hold_s* ago.

    A server that leaves its Service first becomes unready or terminates. One that is suddenly in no slice is usually
    back a moment later, in another slice or in a recreated one.

    :returns: also the time at which the first of them must be dropped.
    """
    if before is None:
        return reading, None
    taken = {(server.host, server.port) for server in reading.servers}
    gone = (s for s in before.servers if s.identity not in reading.mentioned and (s.host, s.port) not in taken)
    since = {server: before.vanished.get(server, now) for server in gone}
    vanished = {server: when for server, when in since.items() if now - when < hold_s}
    if not vanished:
        return reading, None
    # A missing server is reported when it is dropped.
    servers = _in_order((*reading.servers, *vanished))
    held = msgspec.structs.replace(reading, servers=servers, problem=before.problem, vanished=vanished)
    return held, min(vanished.values()) + hold_s


def _in_order(servers: Iterable[Server]) -> tuple[Server, ...]:
    return tuple(sorted(servers, key=lambda s: (s.pod, s.host, s.port)))


def port_of(each: EndpointSlice, wanted: int | str | None) -> int | None:
    """Return the port of the endpoints of a slice; None if *wanted* does not identify one."""
    ports = [p for p in each.ports or () if p.protocol in {None, "TCP"}]
    if isinstance(wanted, int):
        # A slice without ports, or with a port without a number, allows any port.
        is_there = not each.ports or any(p.port in {None, wanted} for p in ports)
        return wanted if is_there else None
    named = [p.port for p in ports if wanted is None or (p.name or "") == wanted]
    return named[0] if len(named) == 1 else None


def is_ready(conditions: Conditions | None) -> bool:
    """Whether an endpoint gets new requests; an unknown condition counts as ready."""
    return conditions is None or (conditions.ready is not False and not conditions.terminating)


def is_last_resort(conditions: Conditions | None) -> bool:
    """Whether an endpoint is terminating and still serves."""
    if conditions is None or not conditions.terminating:
        return False
    serving = conditions.ready if conditions.serving is None else conditions.serving
    return serving is not False


def discovered(readings: Iterable[tuple[ServiceConfig, str, Reading]]) -> tuple[Discovered, ...]:
    """Return all servers of all services, each with a unique name.

    :param readings: each service with its namespace.
    """
    listed = list(readings)
    # From the configuration, not from the current pods: a name must not change when another pod goes.
    has_namespaces = len({namespace for _, namespace, _ in listed}) > 1
    found: dict[str, Discovered] = {}
    urls = set()
    for service, namespace, reading in listed:
        for server in reading.servers:
            url = _url(service, server)
            if url in urls:
                continue
            urls.add(url)
            name = _name(server, f".{namespace}" if has_namespaces and server.pod else "", found)
            found[name] = Discovered(name=name, url=url, kind=service.type)
    return tuple(found.values())


def _name(server: Server, suffix: str, taken: Mapping[str, Discovered]) -> str:
    with_port = f"{server.pod or server.host}{suffix}:{server.port}"
    # One pod may be behind two services with different ports or paths.
    further = (f"{with_port}-{number}" for number in count(2))
    wanted = chain([f"{server.pod}{suffix}"] if server.pod else [], [with_port], further)
    return next(name for name in wanted if name not in taken)


def _url(service: ServiceConfig, server: Server) -> str:
    path = service.path.strip("/")
    return f"{'https' if service.tls else 'http'}://{server.host}:{server.port}{f'/{path}' if path else ''}"


def _rank(address_type: str) -> int:
    return FAMILIES.index(address_type) if address_type in FAMILIES else len(FAMILIES)


def _host(address_type: str, endpoint: Endpoint) -> str:
    """Return the first address as in a URL; empty if it is invalid."""
    address = endpoint.addresses[0] if endpoint.addresses else ""
    try:
        match address_type:
            case "IPv4":
                return str(IPv4Address(address))
            case "IPv6":
                return f"[{IPv6Address(address)}]"
    except ValueError:
        return ""
    return address if _PLAIN_HOST.match(address) else ""


def _identity(endpoint: Endpoint, server: Server) -> str:
    target = endpoint.target_ref
    return target.uid if target is not None and target.uid else f"{server.host}:{server.port}"


def _pod(endpoint: Endpoint) -> str:
    return "" if endpoint.target_ref is None else endpoint.target_ref.name


def _port_problem(each: EndpointSlice, wanted: int | str | None) -> str:
    ports = ", ".join(f"{p.name or 'unnamed'} ({'any' if p.port is None else p.port})" for p in each.ports or ())
    if wanted is None:
        return f"`port` must say which port: {each.metadata.name} has {ports or 'none'}"
    return f"{each.metadata.name} has no port {wanted!r} for TCP: it has {ports or 'none'}"
