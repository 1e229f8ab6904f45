"""The keys of ``[discovery]``."""

from typing import Annotated, Literal

from msgspec import Meta

from nexus.config.section import Seconds, SecondsOrZero, Section

Port = Annotated[int, Meta(ge=1, le=65535)]
ServiceType = Annotated[str, Meta(pattern=r"^_[A-Za-z0-9-]{1,15}\._(tcp|udp)(\.local)?\.?$")]
"""A service type of DNS-SD (RFC 6763, section 7): ``_ollama._tcp``."""


class DnsSourceConfig(Section, frozen=True):
    """A DNS name whose servers join and leave the fleet as its records change."""

    name: str
    """``_llm._tcp.gpu.example``, whose SRV records are looked up; or, with ``port``, a name with many addresses, such
    as that of a headless service in Kubernetes."""
    port: Port | None = None
    """Look up addresses (A and AAAA) rather than SRV records, and connect to this port."""
    type: str = "auto"
    """The kind of the servers; ``auto`` detects it."""
    path: str = ""
    """The base path of their API."""
    tls: bool = False
    """Whether they speak HTTPS."""


class FileSourceConfig(Section, frozen=True):
    """A file of another program whose backends join and leave the fleet as it changes."""

    path: str
    """The file: ``[[backends]]`` tables in TOML or, if the name ends in ``.json``, the same as JSON. It may be missing
    at the start. If the file is invalid, incomplete or gone, its last valid backends stay."""
    references: tuple[str, ...] = ()
    """The secrets that its entries may name, as patterns: ``env:GPU_*``, ``file:/run/secrets/*``. An entry sends a
    secret to the address that it names, so without this limit the program that writes the file could read all secrets
    of the proxy."""


class HostsSourceConfig(Section, frozen=True):
    """Hosts and small subnets on which every LLM server joins the fleet."""

    hosts: tuple[str, ...]
    """Names, addresses and subnets, each with its own ports if necessary: ``mac-studio.local``,
    ``10.0.0.7:8000-8003``, ``[fd00::7]:8000``, ``192.168.1.0/28``. A subnet has at most 256 addresses, and all entries
    together have 1024. Servers at a host or an address need no approval; for those in a subnet, ``discovery.trust``
    decides."""
    ports: tuple[Port, ...] = (11434, 1234, 8000, 8080, 30000, 52415)
    """The ports to try for entries that name none; by default, those of Ollama, LM Studio, vLLM, llama.cpp, SGLang and
    exo."""
    rescan_seconds: Seconds = 60.0
    """Between two scans of its subnets. Hosts and known servers are checked every ``interval_seconds`` of
    ``[discovery]``."""


class DiscoveryConfig(Section, frozen=True):
    """How backends are found that are not configured."""

    enabled: bool | None = None
    """Whether to look for servers at the usual ports of this machine and by mDNS; unset: only if no backend and no
    other source of backends is configured."""
    mdns: bool = True
    """Whether to include servers on the local network that announce themselves by mDNS."""
    service_types: tuple[ServiceType, ...] = (
        "_ollama._tcp",
        "_llm._tcp",
        "_openai._tcp",
        "_saturn._tcp",
        "_vllm._tcp",
        "_lmstudio._tcp",
    )
    """The service types to look for."""
    announce: bool = False
    """Whether this proxy announces itself on the local network, as ``_llm._tcp``. Read at start only."""
    interval_seconds: Seconds = 10.0
    """Between two searches."""
    grace_period_seconds: SecondsOrZero = 60.0
    """How long a discovered server stays listed after it has disappeared."""
    trust: Literal["ask", "allow", "all"] = "ask"
    """Which servers that announce themselves on the network are used: ``ask``, those that an administrator approves;
    ``allow``, also those that ``allow`` lists; ``all``, every one. Servers on this machine need no approval."""
    allow: tuple[str, ...] = ()
    """Subnets (``192.168.1.0/24``), and names of servers or hosts (``gpu-*``), that need no approval with
    ``trust = "allow"``. Any machine of the network can announce any name; an address is harder to fake. An entry that
    looks like an address (``10.0.0.*``) is only compared with addresses."""
    zone: Literal["restricted", "open"] = "open"
    """The privacy zone of servers that were found on other machines."""
    dns: tuple[DnsSourceConfig, ...] = ()
    """Names whose servers are used; they are looked up again when their records expire, after 5 to 300 seconds."""
    file: tuple[FileSourceConfig, ...] = ()
    """Files of backends that other programs write; each is checked twice a second."""
    hosts: tuple[HostsSourceConfig, ...] = ()
    """Hosts and small subnets to scan."""
    nameservers: tuple[str, ...] = ()
    """The name servers for the names of ``dns`` and the targets of their SRV records: addresses, with a port if
    necessary (``127.0.0.1:8600``); unset: the system's."""

    @property
    def has_sources(self) -> bool:
        """Whether sources of backends are configured, so that none need be searched elsewhere."""
        return bool(self.dns or self.file or self.hosts)
