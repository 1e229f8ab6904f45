"""Keeps a pool of connections and the prepared header lines for each backend."""

from collections.abc import Mapping
from typing import Final

from nexus.config.schema import TimeoutsConfig
from nexus.dialing.dial import address_of
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS, UpstreamSettings
from nexus.domain.backend import Backend
from nexus.proxy.headers.to_backend import HeadTemplate, head_template
from nexus.proxy.headers.to_client import backend_lines
from nexus.proxy.upstream.pool import ConnectionCounts, Pool
from nexus.proxy.write_batch import WriteBatch

MAX_COUNTED: Final = 1_000
"""Backends whose connections are counted; beyond that, the counts of unused backends are dropped."""


class Upstream:
    """What every request to one backend needs."""

    __slots__ = ("backend", "head_template", "lines", "pool", "secrets")

    def __init__(
        self,
        backend: Backend,
        settings: UpstreamSettings,
        timeouts: TimeoutsConfig,
        counts: ConnectionCounts | None = None,
        batch: WriteBatch | None = None,
    ) -> None:
        address = address_of(backend.url, settings)
        self.backend = backend
        self.pool = Pool(
            address,
            backend=backend.name,
            connect_timeout_s=timeouts.connect_seconds,
            keepalive_s=timeouts.upstream_keepalive_seconds,
            max_age_s=timeouts.upstream_max_age_seconds,
            counts=counts,
            batch=batch,
        )
        self.head_template: HeadTemplate = head_template(backend.kind, backend.url, address.authority, settings)
        self.secrets = tuple(secret.encode() for secret in (settings.key, *settings.secrets) if secret)
        """Removed from the backend's errors before a client sees them."""
        self.lines = backend_lines(backend)
        """For the head of a reply."""

    def redacted(self, text: bytes) -> bytes:
        """Return headers or an error body without the secrets: some servers repeat what they refuse."""
        for secret in self.secrets:
            text = text.replace(secret, b"***")
        return text


class Upstreams:
    """The upstreams of all backends: made when first needed, and made anew when their settings change."""

    def __init__(
        self, settings: Mapping[str, UpstreamSettings], timeouts: TimeoutsConfig, batch: WriteBatch | None = None
    ) -> None:
        """:param batch: sends the requests of one turn of the event loop together; None: each is sent at once."""
        self._batch = batch
        self._settings = settings
        self._timeouts = timeouts
        self._upstreams: dict[str, Upstream] = {}
        """By the backend's id."""
        self.counts: dict[str, ConnectionCounts] = {}
        """By the backend's name; a backend that returns, or is reconfigured, continues its counts."""

    def of(self, backend: Backend) -> Upstream:
        """Return the upstream of *backend*."""
        upstream = self._upstreams.get(backend.id)
        if upstream is not None and (upstream.backend is backend or _is_same(upstream.backend, backend)):
            return upstream
        if upstream is not None:
            upstream.pool.close()
        settings = self._settings.get(backend.name, DEFAULT_SETTINGS)
        upstream = Upstream(backend, settings, self._timeouts, self._counts_of(backend.name), self._batch)
        self._upstreams[backend.id] = upstream
        return upstream

    def keep_only(self, ids: frozenset[str]) -> None:
        """Close the pools of backends that are no longer in the fleet."""
        for gone in self._upstreams.keys() - ids:
            self._upstreams.pop(gone).pool.close()

    def renew(self, name: str) -> None:
        """Use the new keys and certificates of the backend *name*; requests under way keep the old."""
        for upstream in [upstream for upstream in self._upstreams.values() if upstream.backend.name == name]:
            self._upstreams.pop(upstream.backend.id).pool.close()

    def reconfigure(self, settings: Mapping[str, UpstreamSettings], timeouts: TimeoutsConfig) -> None:
        """Use new keys, certificates and timeouts; requests under way keep the old."""
        self._settings = settings
        self._timeouts = timeouts
        self.close()

    def close(self) -> None:
        """Close every idle connection."""
        for upstream in self._upstreams.values():
            upstream.pool.close()
        self._upstreams.clear()

    def _counts_of(self, name: str) -> ConnectionCounts:
        counts = self.counts.get(name)
        if counts is None:
            if len(self.counts) >= MAX_COUNTED:
                in_use = {upstream.backend.name for upstream in self._upstreams.values()}
                self.counts = {name: counts for name, counts in self.counts.items() if name in in_use or counts.open}
            counts = self.counts[name] = ConnectionCounts()
        return counts


def _is_same(one: Backend, other: Backend) -> bool:
    return one.url == other.url and one.kind is other.kind and one.name == other.name
