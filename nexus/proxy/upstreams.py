"""What the data plane keeps per backend: its pool of connections and the words that every request to it has."""

import ssl
from collections.abc import Mapping
from typing import Final

import msgspec

from nexus.config.schema import TimeoutsConfig
from nexus.domain.backend import Backend
from nexus.proxy.dialing import address_of
from nexus.proxy.headers import RequestStamp, backend_lines, stamp_of
from nexus.proxy.upstream import Pool


class Access(msgspec.Struct, frozen=True):
    """What only the data plane may know of a backend: its key, and whom its certificate must be from."""

    key: str | None = None
    tls: ssl.SSLContext | None = None


OPEN_ACCESS: Final = Access()
"""Of a backend that nobody configured."""


class Upstream:
    """One backend, ready to be sent to."""

    __slots__ = ("access", "backend", "lines", "pool", "stamp")

    def __init__(self, backend: Backend, access: Access, timeouts: TimeoutsConfig) -> None:
        address, base_path = address_of(backend.url, access.tls)
        self.backend = backend
        self.access = access
        self.pool = Pool(
            address,
            connect_timeout_s=timeouts.connect_seconds,
            keepalive_s=timeouts.upstream_keepalive_seconds,
        )
        self.stamp: RequestStamp = stamp_of(backend.kind, address.authority, base_path, access.key)
        self.lines = backend_lines(backend)


class Upstreams:
    """All of them, made when first needed and remade when what they were made of changes."""

    def __init__(self, access: Mapping[str, Access], timeouts: TimeoutsConfig) -> None:
        self._access = access
        self._timeouts = timeouts
        self._known: dict[str, Upstream] = {}

    def of(self, backend: Backend) -> Upstream:
        """Return the upstream of *backend*."""
        known = self._known.get(backend.id)
        if known is not None and (known.backend is backend or _is_same(known.backend, backend)):
            return known
        if known is not None:
            known.pool.close()
        upstream = Upstream(backend, self._access.get(backend.name, OPEN_ACCESS), self._timeouts)
        self._known[backend.id] = upstream
        return upstream

    def keep_only(self, ids: frozenset[str]) -> None:
        """Close the pools of backends that are no longer in the fleet."""
        for gone in self._known.keys() - ids:
            self._known.pop(gone).pool.close()

    def reconfigure(self, access: Mapping[str, Access], timeouts: TimeoutsConfig) -> None:
        """Take new keys, certificates and deadlines; what is under way keeps the old."""
        self._access = access
        self._timeouts = timeouts
        self.close()

    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Return, by backend name, how many connections were opened and how many reused."""
        return {u.backend.name: (u.pool.opened_total, u.pool.reused_total) for u in self._known.values()}

    def close(self) -> None:
        """Close every idle connection."""
        for upstream in self._known.values():
            upstream.pool.close()
        self._known.clear()


def _is_same(known: Backend, backend: Backend) -> bool:
    return known.url == backend.url and known.kind is backend.kind and known.name == backend.name
