"""A DNS server for tests, over UDP and TCP, that can fail like a real one."""

from collections.abc import Callable, Iterator
from itertools import cycle, repeat
from threading import Event
from typing import Any, Final, Self

from dnslib import AAAA, QTYPE, RCODE, RR, SOA, SRV, A, DNSError, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer

from nexus.testing.ports import free_port

PLUGIN: Final = """
from functools import partial

from nexus.api import hookimpl
from nexus.dialing import lookups, names
from nexus.fleet.discovery.dns import discoverer as dns
from nexus.fleet.discovery.dns import answers as dns_answers


@hookimpl
def nexus_reconcilers():
    return []


lookups.ask_name_servers = partial(lookups.ask_name_servers, nameservers=["127.0.0.1:{port}"])
names.MIN_TTL_S = names.RETRY_S = dns_answers.MIN_TTL_S = dns_answers.RETRY_S = {min_ttl_s}
dns.QUERY_TIMEOUT_S, dns.TRIES = 0.3, 1
"""
"""A plugin that resolves all names at the test server, those of backends too, and more often than usual."""


MAX_BY_UDP: Final = 512


class Handler(DNSHandler):  # type: ignore[misc]
    """Truncates long UDP responses, as servers did before EDNS: the client has to retry over TCP."""

    def get_reply(self, data: bytes) -> bytes:
        """Return the response to *data*."""
        reply: bytes = super().get_reply(data)
        if self.protocol == "tcp" or len(reply) <= MAX_BY_UDP:
            return reply
        # DNSRecord.truncate() omits the question, which no real server does.
        cut = DNSRecord.parse(data).reply()
        cut.header.tc = 1
        return bytes(cut.pack())


class NameServer(BaseResolver):  # type: ignore[misc]
    """Serves the records of a zone; a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self.code = RCODE.NOERROR
        self.is_silent = False
        """Whether it ignores all queries."""
        self.failing_kinds: set[str] = set()
        """The record types, such as ``A``, for which it answers SERVFAIL."""
        self.adds_addresses = True
        """Whether SRV responses include the addresses of their targets."""
        self.on_denial: Callable[[], object] = lambda: None
        """Called before it answers with an error."""
        self.asked: list[tuple[str, str]] = []
        self.asked_by_tcp = 0
        self.codes: dict[str, int] = {}
        """The error code for a name, if it has one."""
        self.delays: dict[str, Event] = {}
        """The event for which responses for a name wait."""
        self._records: dict[tuple[str, int], Iterator[list[RR]]] = {}

    def serve(self, name: str, *ports: int, ttl: int = 1) -> None:
        """Set the SRV records of *name* to these ports of the loopback address, in order of priority."""
        self.codes.pop(name, None)
        for port in ports:
            self.addresses(f"gpu-{port}.test", "127.0.0.1", ttl=ttl)
        self.servers(name, *((f"gpu-{port}.test.", port, place, 1) for place, port in enumerate(ports)), ttl=ttl)

    def addresses(self, name: str, *addresses: str, ttl: int = 1) -> None:
        """Set the addresses of *name*."""
        self._records[name, QTYPE.A] = repeat(
            [RR(name, QTYPE.A, rdata=A(each), ttl=ttl) for each in addresses if "." in each]
        )
        self._records[name, QTYPE.AAAA] = repeat(
            [RR(name, QTYPE.AAAA, rdata=AAAA(each), ttl=ttl) for each in addresses if ":" in each]
        )

    def alternate(self, name: str, *addresses: str) -> None:
        """Answer queries for *name* with one of these IPv4 addresses at a time."""
        self._records[name, QTYPE.A] = cycle([RR(name, QTYPE.A, rdata=A(each), ttl=1)] for each in addresses)

    def servers(self, name: str, *targets: tuple[Any, ...], ttl: int = 1) -> None:
        """Set the SRV records of *name*: target, port, and optionally priority and weight."""
        self._records[name, QTYPE.SRV] = repeat(
            [
                RR(name, QTYPE.SRV, rdata=SRV(*(more or (0, 1)), port, target), ttl=ttl)
                for target, port, *more in targets
            ]
        )

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """Answer one query."""
        name, kind = str(request.q.qname).rstrip("."), request.q.qtype
        self.asked.append((name, QTYPE[kind]))
        self.asked_by_tcp += handler.protocol == "tcp"
        reply = request.reply()
        if self.is_silent:
            raise DNSError("no answer")
        if name in self.delays:
            self.delays[name].wait(20)
        code = self.code or self.codes.get(name, RCODE.NOERROR)
        reply.header.rcode = RCODE.SERVFAIL if QTYPE[kind] in self.failing_kinds else code
        if reply.header.rcode != RCODE.NOERROR:
            self.on_denial()
            # The SOA record says how long the error may be cached.
            reply.add_auth(RR("test", QTYPE.SOA, rdata=SOA("ns.test", "root.test", (1, 60, 60, 60, 60)), ttl=60))
            return reply
        records = self._found(name, kind)
        reply.add_answer(*records)
        if kind == QTYPE.SRV and self.adds_addresses:
            for record in records:
                reply.add_ar(*self._found(str(record.rdata.target).rstrip("."), QTYPE.A))
        return reply

    def _found(self, name: str, kind: int) -> list[RR]:
        return next(self._records.get((name, kind), repeat([])))

    def __enter__(self) -> Self:
        logger = DNSLogger("-recv,-send,-request,-reply,-truncated,-error,-data")
        self._servers = [
            DNSServer(self, port=self.port, address="127.0.0.1", tcp=is_tcp, logger=logger, handler=Handler)
            for is_tcp in (False, True)
        ]
        for server in self._servers:
            server.start_thread()
        return self

    def __exit__(self, *failure: object) -> None:
        for event in self.delays.values():
            event.set()
        for server in self._servers:
            server.stop()
            server.server.server_close()
