"""The keys of ``[discovery]``."""

from typing import Annotated, Literal

from msgspec import Meta

from nexus.config.section import Seconds, SecondsOrZero, Section

Port = Annotated[int, Meta(ge=1, le=65535)]
ServiceType = Annotated[str, Meta(pattern=r"^_[A-Za-z0-9-]{1,15}\._(tcp|udp)(\.local)?\.?$")]
"""As DNS-SD has it (RFC 6763, section 7): ``_ollama._tcp``."""


class DnsSourceConfig(Section, frozen=True):
    """A DNS name whose servers join the fleet and leave it as its records change."""

    name: str
    """``_llm._tcp.gpu.example``, whose SRV records are looked up; or, with ``port``, a name of many addresses, such as
    that of a headless service in Kubernetes."""
    port: Port | None = None
    """Look up addresses (A and AAAA) rather than SRV records, and connect to this port."""
    type: str = "auto"
    """The kind of the servers; ``auto`` finds it out by asking each."""
    path: str = ""
    """The base path of their API."""
    tls: bool = False
    """Whether they speak HTTPS."""


class FileSourceConfig(Section, frozen=True):
    """A file that another program writes, whose backends join the fleet and leave it as it changes."""

    path: str
    """The file: ``[[backends]]`` tables in TOML or, where the name ends in ``.json``, the same as JSON. It may be
    missing at the start. A file that is wrong, incomplete or gone changes nothing: what it listed last stays."""
    references: tuple[str, ...] = ()
    """The secrets that its entries may name, as patterns: ``env:GPU_*``, ``file:/run/secrets/*``. An entry sends a
    secret to the address that it names: without this, the program that writes the file could read all that the proxy
    has."""


class HostsSourceConfig(Section, frozen=True):
    """Hosts and small subnets where every server that answers like an LLM server joins the fleet."""

    hosts: tuple[str, ...]
    """Names, addresses and subnets, each with ports of its own if need be: ``mac-studio.local``,
    ``10.0.0.7:8000-8003``, ``[fd00::7]:8000``, ``192.168.1.0/28``. A subnet has 256 addresses at most, and all entries
    together 1024. Servers at a host or an address need no approval; those in a subnet are trusted as
    ``discovery.trust`` says."""
    ports: tuple[Port, ...] = (11434, 1234, 8000, 8080, 30000, 52415)
    """The ports that are tried where an entry names none; the default are the usual ones of Ollama, LM Studio, vLLM,
    llama.cpp, SGLang and exo."""
    rescan_seconds: Seconds = 60.0
    """Between two scans of its subnets. Hosts, and servers that were found, are looked at every ``interval_seconds``
    of ``[discovery]``."""


class DiscoveryConfig(Section, frozen=True):
    """How backends are found that are not configured."""

    enabled: bool | None = None
    """Whether servers are looked for, at the usual ports of this machine and by mDNS; unset: only when no backend and
    no other source of backends is configured."""
    mdns: bool = True
    """Whether that includes servers on the local network, which announce themselves by mDNS."""
    service_types: tuple[ServiceType, ...] = (
        "_ollama._tcp",
        "_llm._tcp",
        "_openai._tcp",
        "_saturn._tcp",
        "_vllm._tcp",
        "_lmstudio._tcp",
    )
    """The service types that are looked for."""
    announce: bool = False
    """Whether this proxy announces itself on the local network, as ``_llm._tcp``. Read at start only."""
    interval_seconds: Seconds = 10.0
    """Between two looks."""
    grace_period_seconds: SecondsOrZero = 60.0
    """How long a server that was found and is gone stays listed."""
    trust: Literal["ask", "allow", "all"] = "ask"
    """Which servers that announce themselves on the network are used: ``ask``, those that an administrator approves;
    ``allow``, also those that ``allow`` lists; ``all``, every one. Servers on this machine need no approval."""
    allow: tuple[str, ...] = ()
    """Subnets (``192.168.1.0/24``), and names of servers or hosts (``gpu-*``), that need no approval with
    ``trust = "allow"``. Any machine of the network can announce any name; an address is harder to take. An entry that
    reads like an address (``10.0.0.*``) is compared with addresses alone."""
    zone: Literal["restricted", "open"] = "open"
    """The privacy zone of servers that were found on other machines."""
    dns: tuple[DnsSourceConfig, ...] = ()
    """Names whose servers are used; they are looked up again when their records expire, after 5 to 300 seconds."""
    file: tuple[FileSourceConfig, ...] = ()
    """Files of backends that other programs write; each is looked at twice a second."""
    hosts: tuple[HostsSourceConfig, ...] = ()
    """Hosts and small subnets whose ports are tried."""
    nameservers: tuple[str, ...] = ()
    """Where the names of ``dns``, and the targets of their SRV records, are looked up: addresses, with a port if need
    be (``127.0.0.1:8600``); unset: the system's."""

    @property
    def has_sources(self) -> bool:
        """Whether it names where backends come from, so that none need be looked for elsewhere."""
        return bool(self.dns or self.file or self.hosts)
