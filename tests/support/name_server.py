"""A DNS server of tests: it answers what it is told to, by UDP and TCP, and fails in the ways of real ones."""

from collections.abc import Callable
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
"""A plugin by which the names of backends are looked up at a server of tests, and not only those of discovery; and all
of them more often than usual, so that a test need not wait."""


MOST_BY_UDP: Final = 512


class Handler(DNSHandler):  # type: ignore[misc]
    """Cuts what is too long for a datagram, as servers did before EDNS: the client has to ask again by TCP."""

    def get_reply(self, data: bytes) -> bytes:
        """Return the answer to *data*."""
        reply: bytes = super().get_reply(data)
        if self.protocol == "tcp" or len(reply) <= MOST_BY_UDP:
            return reply
        # DNSRecord.truncate() leaves the question out, which no real server does.
        cut = DNSRecord.parse(data).reply()
        cut.header.tc = 1
        return bytes(cut.pack())


class NameServer(BaseResolver):  # type: ignore[misc]
    """The records of a zone; a context manager."""

    def __init__(self) -> None:
        self.port = free_port()
        self.code = RCODE.NOERROR
        self.is_silent = False
        """It does not answer."""
        self.failing_kinds: set[str] = set()
        """``A``, ``AAAA`` or ``SRV``: those to which it answers SERVFAIL."""
        self.adds_addresses = True
        """Whether the addresses of targets come along with SRV records."""
        self.on_denial: Callable[[], object] = lambda: None
        """Called before it answers with an error."""
        self.asked: list[tuple[str, str]] = []
        self.asked_by_tcp = 0
        self._records: dict[tuple[str, int], list[RR]] = {}

    def addresses(self, name: str, *addresses: str, ttl: int = 1) -> None:
        """Let *name* have these addresses, and no others."""
        self._records[name, QTYPE.A] = [RR(name, QTYPE.A, rdata=A(each), ttl=ttl) for each in addresses if "." in each]
        self._records[name, QTYPE.AAAA] = [
            RR(name, QTYPE.AAAA, rdata=AAAA(each), ttl=ttl) for each in addresses if ":" in each
        ]

    def servers(self, name: str, *targets: tuple[Any, ...], ttl: int = 1) -> None:
        """Let *name* have SRV records: each a target, its port, and priority and weight if need be."""
        self._records[name, QTYPE.SRV] = [
            RR(name, QTYPE.SRV, rdata=SRV(*(more or (0, 1)), port, target), ttl=ttl) for target, port, *more in targets
        ]

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """Answer one question."""
        name, kind = str(request.q.qname).rstrip("."), request.q.qtype
        self.asked.append((name, QTYPE[kind]))
        self.asked_by_tcp += handler.protocol == "tcp"
        reply = request.reply()
        if self.is_silent:
            raise DNSError("no answer")
        reply.header.rcode = RCODE.SERVFAIL if QTYPE[kind] in self.failing_kinds else self.code
        if reply.header.rcode != RCODE.NOERROR:
            self.on_denial()
            # As name servers do: for how long the denial may be kept.
            reply.add_auth(RR("test", QTYPE.SOA, rdata=SOA("ns.test", "root.test", (1, 60, 60, 60, 60)), ttl=60))
            return reply
        reply.add_answer(*self._records.get((name, kind), ()))
        if kind == QTYPE.SRV and self.adds_addresses:
            for record in self._records.get((name, kind), ()):
                reply.add_ar(*self._records.get((str(record.rdata.target).rstrip("."), QTYPE.A), ()))
        return reply

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
        for server in self._servers:
            server.stop()
            server.server.server_close()
