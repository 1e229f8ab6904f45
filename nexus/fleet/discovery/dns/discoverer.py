"""Looks up DNS names repeatedly: the targets of SRV records, or all addresses of a name."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from functools import partial
from typing import Any, Final

import aiodns
import structlog

from nexus import tasks
from nexus.config.discovery_schema import DnsSourceConfig
from nexus.fleet.discovery.discoverer import Discovered, Discoverer
from nexus.fleet.discovery.dns.answers import MAX_SERVERS, LookupFailed, NameState, NoSuchName, Record, servers_of

log = structlog.get_logger("nexus.fleet")

QUERY_TIMEOUT_S: Final = 2.0
TRIES: Final = 2
_CERTAIN: Final = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA})


class DnsDiscoverer(Discoverer):
    """Looks up each name again when its records expire, and keeps the last good answer while name servers fail."""

    name = "dns"
    is_certain = True

    def __init__(
        self,
        sources: Iterable[DnsSourceConfig],
        nameservers: Iterable[str] = (),
        *,
        before: "DnsDiscoverer | None" = None,
    ) -> None:
        """:param nameservers: each ``address`` or ``address:port``; none: those of the system.
        :param before: the discoverer that it replaces at a reload; the servers of a name in both are kept.
        """
        self.sources = tuple(sources)
        self.nameservers = tuple(nameservers)
        old: Mapping[DnsSourceConfig, NameState] = {} if before is None else before.states
        self.states: dict[DnsSourceConfig, NameState] = {
            source: old.get(source, NameState()) for source in self.sources
        }
        self._is_replacement = before is not None
        self._is_changed = asyncio.Event()

    async def watch(self) -> AsyncGenerator[tuple[Discovered, ...], None]:
        following = [tasks.keep_running(partial(self._follow, source), name="discover-dns") for source in self.sources]
        try:
            while True:
                self._is_changed.clear()
                # After a reload, yield at once even if no name is known: that removes the servers of dropped names.
                if self._is_replacement or any(state.is_known for state in self.states.values()):
                    yield tuple(found for state in self.states.values() for found in state.servers)
                await self._is_changed.wait()
        finally:
            await tasks.stop(*following)

    async def _follow(self, source: DnsSourceConfig) -> None:
        while True:
            before = self.states[source]
            try:
                records = await _look_up(source, self.nameservers, before.found)
            except NoSuchName:
                now = before.without_records()
            except LookupFailed as exc:
                now = before.failed(str(exc))
            else:
                now = before.answered(servers_of(source, records), min((r.ttl_s for r in records), default=0))
            self.states[source] = now
            if now.failure and not before.failure:
                log.warning("name_lookup_failed", host=source.name, reason=now.failure, servers=len(now.found))
            elif before.failure and not now.failure:
                log.info("name_lookup_recovered", host=source.name, servers=len(now.found))
            if now.servers != before.servers or now.is_known != before.is_known:
                self._is_changed.set()
            await asyncio.sleep(now.pause_s)


async def why_unknown(source: DnsSourceConfig, nameservers: Iterable[str]) -> str | None:
    """Look up *source* once, and return why it has no servers; None if it has some."""
    try:
        found = servers_of(source, await _look_up(source, nameservers))
    except NoSuchName:
        return "the name servers say that there are none"
    except LookupFailed as exc:
        return str(exc)
    return None if found else "its records lead to no server"


async def _look_up(
    source: DnsSourceConfig, nameservers: Iterable[str], before: Iterable[Discovered] = ()
) -> tuple[Record, ...]:
    """Return the records of *source*. :raises NoSuchName: there are none. :raises LookupFailed: unknown.

    :param before: its servers so far.
    """
    # A new one for each lookup: a resolver caches denials, so that a second denial would be the first one again.
    resolver = aiodns.DNSResolver(nameservers=list(nameservers) or None, timeout=QUERY_TIMEOUT_S, tries=TRIES)
    try:
        if source.port is not None:
            return await _addresses(source.name, resolver, before)
        result = await _query(resolver, source.name, "SRV")
        servers = [r for r in result.answer if hasattr(r.data, "target") and r.data.target.rstrip(".")][:MAX_SERVERS]
        addresses = {target: _additional(target, result.additional) for target in map(_target, servers)}
        if nameservers:
            # The resolver of connections may not know these names, but the name servers of the SRV records do.
            missing = [target for target, known in addresses.items() if not known]
            found = await asyncio.gather(*(_addresses(target, resolver) for target in missing), return_exceptions=True)
            addresses |= {t: a for t, a in zip(missing, found, strict=True) if not isinstance(a, BaseException)}
    finally:
        await resolver.close()
    return tuple(_server(answer, addresses[_target(answer)]) for answer in servers)


def _target(answer: Any) -> str:
    target: str = answer.data.target
    return target.rstrip(".")


def _additional(target: str, additional: Iterable[Any]) -> tuple[Record, ...]:
    """Return the addresses of *target* in the additional section of an answer."""
    of_target = (r for r in additional if r.name.rstrip(".").lower() == target.lower())
    return tuple(Record(r.data.addr, r.ttl) for r in of_target if hasattr(r.data, "addr"))


def _server(answer: Any, addresses: Iterable[Record]) -> Record:
    """Return an SRV record with an address of its target, if one is known."""
    data = answer.data
    # Always the same of several: name servers rotate them, and another address would count as another server.
    of_target = min(addresses, key=lambda r: (":" in r.host, r.host), default=None)
    address, ttl_s = ("", answer.ttl) if of_target is None else (of_target.host, min(answer.ttl, of_target.ttl_s))
    return Record(_target(answer), ttl_s, data.port, data.priority, data.weight, address)


async def _addresses(name: str, resolver: aiodns.DNSResolver, before: Iterable[Discovered] = ()) -> tuple[Record, ...]:
    answers = await asyncio.gather(
        *(_query(resolver, name, record_type) for record_type in ("A", "AAAA")), return_exceptions=True
    )
    results = [answer for answer in answers if not isinstance(answer, BaseException)]
    # The answer may contain CNAME records, which have no address.
    found = tuple(Record(r.data.addr, r.ttl) for result in results for r in result.answer if hasattr(r.data, "addr"))
    failures = [answer for answer in answers if isinstance(answer, BaseException)]
    if found or not failures:
        # If the lookup of one address family failed, its previous addresses stay.
        failed = [at for at, answer in enumerate(answers) if isinstance(answer, LookupFailed)]
        return found + tuple(Record(host, 0) for host in map(_host, before) if (":" in host) in map(bool, failed))
    # A family whose lookup failed may have records, so the name is denied only if both are.
    raise next((failure for failure in failures if not isinstance(failure, NoSuchName)), failures[0])


def _host(found: Discovered) -> str:
    return found.name.rpartition(":")[0]


async def _query(resolver: aiodns.DNSResolver, name: str, record_type: str) -> Any:
    try:
        return await resolver.query_dns(name, record_type)
    except aiodns.error.DNSError as exc:
        code, *text = exc.args
        if code in _CERTAIN:
            raise NoSuchName from exc
        raise LookupFailed(str(text[0]) if text else str(exc)) from exc
