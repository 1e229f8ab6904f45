"""Finds keys that have no effect, because another key is not set."""

from collections.abc import Callable, Collection, Iterator
from typing import Final

from nexus.config.faults import Fault
from nexus.config.schema import Config

Given = Collection[str]
"""The dotted keys that file, environment or command line set."""

_TLS_KEYS: Final = ("tls_ca_file", "tls_cert_file", "tls_key_file")


def check_store(config: Config, given: Given) -> None:
    """Raise :class:`Fault` for a ``store.path`` without a ``store.kind``: the state would be lost at a restart."""
    path = ("store", "path")
    if "store.path" in given and "store.kind" not in given:
        raise Fault(path, "a path without a kind stores nothing", 'set kind = "sqlite" too, or leave the path out')
    if not config.store.path.strip():
        raise Fault(path, "expected the name of a file, got an empty one", "leave it out for nexus.sqlite3")


def unused(config: Config, given: Given) -> Iterator[Fault]:
    """Yield each key of *config* that was *given* and has no effect, with a hint.

    The keys of a section with ``enabled = false`` are not reported, because the operator switched it off.
    """
    for rule in _RULES:
        yield from rule(config, given)


def _otel(config: Config, given: Given) -> Iterator[Fault]:
    if config.otel.enabled or "otel.enabled" in given:
        return
    for key in _below("otel", given):
        yield Fault(("otel", key), "has no effect", "set enabled = true in [otel]")


def _store(config: Config, given: Given) -> Iterator[Fault]:
    if config.store.kind == "memory" and "store.path" in given:
        yield Fault(("store", "path"), "has no effect with kind = 'memory'", 'set kind = "sqlite" to keep the state')


def _weights(config: Config, given: Given) -> Iterator[Fault]:
    if config.routing.strategy != "smart" and _below("routing.weights", given):
        problem = f"has no effect with strategy = '{config.routing.strategy}'"
        yield Fault(("routing", "weights"), problem, "only 'smart' weighs")


def _discovery(config: Config, given: Given) -> Iterator[Fault]:
    discovery = config.discovery
    if "discovery.allow" in given and discovery.trust != "allow":
        problem = f"has no effect with trust = '{discovery.trust}'"
        yield Fault(("discovery", "allow"), problem, 'set trust = "allow" in [discovery]')
    has_others = bool(config.backends) or discovery.has_sources
    is_off = discovery.enabled is None and has_others
    for key in ("mdns", "service_types"):
        if is_off and f"discovery.{key}" in given and getattr(discovery, key):
            problem = "has no effect: servers are looked for only where no other source of backends is configured"
            yield Fault(("discovery", key), problem, "set enabled = true in [discovery] to look all the same")
    if not discovery.mdns and "discovery.service_types" in given:
        yield Fault(("discovery", "service_types"), "has no effect with mdns = false", "leave one of the two out")


def _tls(config: Config, _given: Given) -> Iterator[Fault]:
    for index, backend in enumerate(config.backends):
        path = ("backends", index)
        for key in _TLS_KEYS:
            if getattr(backend, key) is not None and not backend.url.startswith("https:"):
                yield Fault((*path, key), "has no effect: the URL is not https", "write https:// if it speaks TLS")
        if backend.tls_ca_file is not None and not backend.tls_verify and backend.url.startswith("https:"):
            problem = "has no effect with tls_verify = false"
            yield Fault((*path, "tls_ca_file"), problem, "remove tls_verify to check the certificate against it")


def _below(section: str, given: Given) -> list[str]:
    """Return the given keys directly in *section*, sorted."""
    start = f"{section}."
    return sorted({key.removeprefix(start).partition(".")[0] for key in given if key.startswith(start)})


_RULES: Final[tuple[Callable[[Config, Given], Iterator[Fault]], ...]] = (_otel, _store, _weights, _discovery, _tls)
