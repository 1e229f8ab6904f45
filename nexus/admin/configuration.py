"""The configuration in force, and where each key comes from (``/admin/config``)."""

from collections.abc import Iterator
from typing import Final

import msgspec

from nexus.admin.openapi.operation import DescribedRoute, Operation
from nexus.admin.page import instant, json_page
from nexus.config.documents.effective import ShownBackend, ShownKey, keys_of, shown_backends, shown_keys
from nexus.config.loading import LoadedConfig
from nexus.domain.backend import Backend
from nexus.fleet.added import SOURCE, Dropped
from nexus.fleet.discovery.files.watched_file import SOURCE as FILE
from nexus.fleet.fleet import Fleet

CONFIG_PATH: Final = "/admin/config"


class ConfigView(msgspec.Struct, frozen=True):
    """The body of ``/admin/config``."""

    settings: tuple[ShownKey, ...]
    backends: tuple[ShownBackend, ...]
    dropped: tuple[Dropped, ...] = ()
    """Backends that were added at runtime and then replaced by one in the file."""


def configuration(loaded: LoadedConfig, fleet: Fleet | None = None) -> ConfigView:
    """Return the keys and backends of *loaded*, and the further backends of *fleet*."""
    more = () if fleet is None else _found_and_added(fleet)
    dropped = () if fleet is None else fleet.added.dropped
    return ConfigView(tuple(shown_keys(loaded)), (*shown_backends(loaded), *more), dropped)


def route(loaded: LoadedConfig, fleet: Fleet) -> DescribedRoute:
    """Return ``/admin/config``."""
    return DescribedRoute(
        path=CONFIG_PATH,
        respond=lambda _: json_page(configuration(loaded, fleet)),
        access="admin",
        operation=Operation(summary="Every key that is in force, and what set it; no secret", answers=(ConfigView,)),
    )


def _found_and_added(fleet: Fleet) -> Iterator[ShownBackend]:
    for config in fleet.added.configs():
        yield ShownBackend(keys_of(config), SOURCE)
    ignored = {(clash.file, clash.name) for clash in fleet.clashes}
    for path, state in fleet.files.items():
        for config in (entry.member.config for entry in state.entries):
            if (path, config.name) not in ignored:
                yield ShownBackend(keys_of(config), f"{path}, as of {instant(state.taken_unix_s):%Y-%m-%dT%H:%M:%SZ}")
    for backend in fleet.snapshot.backends:
        if backend.discovery_source not in {"static", SOURCE, FILE}:
            yield ShownBackend(_found(backend), f"discovery ({backend.discovery_source})")


def _found(backend: Backend) -> dict[str, object]:
    return {
        "name": backend.name,
        "url": backend.url,
        "type": backend.kind.name,
        "zone": backend.zone,
        "priority": backend.priority,
        "share": backend.share,
    }
