"""What the data plane keeps per backend: its pool of connections and the words that every request to it has."""

from collections.abc import Mapping
from typing import Final

from nexus.config.schema import TimeoutsConfig
from nexus.dialing.dial import address_of
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import Backend
from nexus.proxy.headers.to_client import RequestStamp, backend_lines, stamp_of
from nexus.proxy.upstream.pool import ConnectionCounts, Pool
from nexus.proxy.write_batch import WriteBatch

MAX_COUNTED: Final = 1_000
"""Backends whose connections are remembered; beyond that, those that are not in use are forgotten."""


class Upstream:
    """One backend, ready to be sent to."""

    __slots__ = ("access", "backend", "lines", "pool", "secrets", "stamp")

    def __init__(
        self,
        backend: Backend,
        access: UpstreamSettings,
        timeouts: TimeoutsConfig,
        counts: ConnectionCounts | None = None,
        batch: WriteBatch | None = None,
    ) -> None:
        address = address_of(backend.url, access)
        self.backend = backend
        self.access = access
        self.pool = Pool(
            address,
            backend=backend.name,
            connect_timeout_s=timeouts.connect_seconds,
            keepalive_s=timeouts.upstream_keepalive_seconds,
            max_age_s=timeouts.upstream_max_age_seconds,
            counts=counts,
            batch=batch,
        )
        self.stamp: RequestStamp = stamp_of(backend.kind, backend.url, address.authority, access)
        self.secrets = tuple(secret.encode() for secret in (access.key, *access.secrets) if secret)
        """What an error of the backend must not show to a client."""
        self.lines = backend_lines(backend)

    def redacted(self, text: bytes) -> bytes:
        """Return headers or an error body without the secrets: some servers repeat what they refuse."""
        for secret in self.secrets:
            text = text.replace(secret, b"***")
        return text


class Upstreams:
    """All of them, made when first needed and remade when what they were made of changes."""

    def __init__(
        self, access: Mapping[str, UpstreamSettings], timeouts: TimeoutsConfig, batch: WriteBatch | None = None
    ) -> None:
        """:param outbox: where requests wait for those of the same turn; None: nowhere."""
        self._batch = batch
        self._access = access
        self._timeouts = timeouts
        self._known: dict[str, Upstream] = {}
        self.counts: dict[str, ConnectionCounts] = {}
        """By the backend's name; they go on where the backend comes back, or is configured anew."""

    def of(self, backend: Backend) -> Upstream:
        """Return the upstream of *backend*."""
        known = self._known.get(backend.id)
        if known is not None and (known.backend is backend or _is_same(known.backend, backend)):
            return known
        if known is not None:
            known.pool.close()
        access = self._access.get(backend.name, DEFAULT_SETTINGS)
        upstream = Upstream(backend, access, self._timeouts, self._counts_of(backend.name), self._batch)
        self._known[backend.id] = upstream
        return upstream

    def keep_only(self, ids: frozenset[str]) -> None:
        """Close the pools of backends that are no longer in the fleet."""
        for gone in self._known.keys() - ids:
            self._known.pop(gone).pool.close()

    def renew(self, name: str) -> None:
        """Take the new keys and certificates of the backend of that name; what is under way keeps the old."""
        for upstream in [upstream for upstream in self._known.values() if upstream.backend.name == name]:
            self._known.pop(upstream.backend.id).pool.close()

    def reconfigure(self, access: Mapping[str, UpstreamSettings], timeouts: TimeoutsConfig) -> None:
        """Take new keys, certificates and deadlines; what is under way keeps the old."""
        self._access = access
        self._timeouts = timeouts
        self.close()

    def close(self) -> None:
        """Close every idle connection."""
        for upstream in self._known.values():
            upstream.pool.close()
        self._known.clear()

    def _counts_of(self, name: str) -> ConnectionCounts:
        counts = self.counts.get(name)
        if counts is None:
            if len(self.counts) >= MAX_COUNTED:
                in_use = {upstream.backend.name for upstream in self._known.values()}
                self.counts = {name: counts for name, counts in self.counts.items() if name in in_use or counts.open}
            counts = self.counts[name] = ConnectionCounts()
        return counts


def _is_same(known: Backend, backend: Backend) -> bool:
    return known.url == backend.url and known.kind is backend.kind and known.name == backend.name
