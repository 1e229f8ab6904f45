"""Checks the rules between keys, and the spelling of names, which types cannot express."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from nexus.config.faults import Fault
from nexus.config.quoting import shown, shown_path
from nexus.config.rules import urls
from nexus.config.rules.scan_places import faults_of
from nexus.config.schema import BackendConfig, Config
from nexus.domain.naming import MAX_ALIAS_HOPS, Naming
from nexus.domain.translation import PAIRS
from nexus.errors import did_you_mean

PROTOCOLS: Final = ("openai", "ollama", "anthropic")
ZONES: Final = ("restricted", "open")

# Names appear in headers, metrics, logs and the paths of admin pages.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
EXPECTED_NAME: Final = "expected 1 to 128 letters, digits and any of . _ : @ + -, a letter or digit first"
NO_BACKEND: Final = "none"
_ORIGIN: Final = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\s@]+", re.IGNORECASE)
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]+(?: +[\x21-\x7e]+)*")
RESERVED_HEADERS: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
"""Headers that frame a request to a backend, or that the proxy sets itself."""
_ALLOWED_HOST: Final = re.compile(r"\*|\[[0-9a-fA-F:.]+\]|[\w.*-]+", re.ASCII)


def normalised(config: Config) -> Config:
    """Return *config* with the canonical URL, zone and key of each backend; raise :class:`Fault`."""
    backends = tuple(_normalised_backend(backend, index) for index, backend in enumerate(config.backends))
    return msgspec.structs.replace(config, backends=backends)


def without_logins(config: Config) -> tuple[Config, dict[str, str]]:
    """Return *config* without credentials in URLs, and these as ``user:password`` by the backend's name."""
    logins: dict[str, str] = {}
    backends: list[BackendConfig] = []
    for index, backend in enumerate(config.backends):
        try:
            url, login = urls.without_user(backend.url)
        except ValueError as exc:
            raise Fault(("backends", index, "url"), f"bad URL: {exc}", "or use basic_auth") from None
        if login is not None and backend.basic_auth is not None:
            raise Fault(("backends", index, "basic_auth"), "the URL has credentials too", "keep one of them")
        if login is not None:
            logins[backend.name] = login
        backends.append(msgspec.structs.replace(backend, url=url))
    return msgspec.structs.replace(config, backends=tuple(backends)), logins


def check(config: Config, *, insecure: bool) -> None:
    """Raise :class:`Fault` for the first rule that *config*, already canonical, breaks."""
    for rule in RULES:
        for fault in rule(config):
            raise fault
    if not insecure:
        _require_keys_for_other_machines(config)


def check_kinds(config: Config, known: Iterable[str]) -> None:
    """Raise :class:`Fault` for a backend of an unknown kind; called when the kinds of plugins are known."""
    choices = ("auto", *sorted(known))
    for index, backend in enumerate(config.backends):
        if backend.type not in choices:
            hint = did_you_mean(backend.type, choices, before="")
            expected = f"expected one of {', '.join(choices)}, got '{shown(backend.type)}'"
            raise Fault(("backends", index, "type"), expected, hint)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*."""
    bare = host.strip("[]").lower()
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return bare == "localhost"


def _normalised_backend(backend: BackendConfig, index: int) -> BackendConfig:
    try:
        url = urls.normalised(backend.url, path_is_complete=backend.path_is_complete)
    except ValueError as exc:
        hint = (
            f"did you mean 'http://{shown(backend.url)}'?"
            if "://" not in backend.url and "@" not in backend.url
            else ""
        )
        raise Fault(("backends", index, "url"), f"bad URL: {exc}", hint) from exc
    if backend.api_key is not None and backend.api_key_env is not None:
        raise Fault(("backends", index, "api_key_env"), "api_key is given too", "keep one of them")
    api_key = backend.api_key if backend.api_key_env is None else f"env:{backend.api_key_env}"
    models = {name: msgspec.structs.replace(model, zone=_lowered(model.zone)) for name, model in backend.models.items()}
    return msgspec.structs.replace(backend, url=url, api_key=api_key, zone=_lowered(backend.zone), models=models)


def _lowered(word: str | None) -> str | None:
    return word.lower() if word is not None else None


def _require_keys_for_other_machines(config: Config) -> None:
    if not config.server.api_keys and not is_loopback(config.server.host):
        raise Fault(
            ("server", "host"),
            f"'{shown(config.server.host)}' can be reached from other machines, and no key is required",
            "set api_keys in [server], or use --insecure to accept all requests",
        )


def _server(config: Config) -> Iterator[Fault]:
    host = config.server.host
    if not host or not host.isprintable() or " " in host:
        yield Fault(("server", "host"), "expected an address or a host name", "0.0.0.0 binds all of them")
    names = [None if isinstance(entry, str) else entry.name for entry in config.server.api_keys]
    for index, name in enumerate(names):
        if name is not None and not _NAME.fullmatch(name):
            yield Fault(("server", "api_keys", index, "name"), f"bad name '{shown(name)}'", EXPECTED_NAME)
        elif name is not None and name in names[:index]:
            yield Fault(("server", "api_keys", index, "name"), f"two keys are named '{name}'", "rename one of them")
    for index, origin in enumerate(config.server.allowed_origins):
        if not _ORIGIN.fullmatch(origin):
            expected = "expected scheme://host:port, without a path or a slash at the end"
            yield Fault(("server", "allowed_origins", index), expected)
    for index, name in enumerate(config.server.allowed_hosts):
        if not _ALLOWED_HOST.fullmatch(name):
            yield Fault(("server", "allowed_hosts", index), "expected a host name, without scheme and port")


def _weights(config: Config) -> Iterator[Fault]:
    weights = config.routing.weights
    total = weights.priority + weights.load + weights.latency
    if total != 100:
        yield Fault(("routing", "weights"), f"priority, load and latency must sum to 100, and sum to {total}")


def _aliases(config: Config) -> Iterator[Fault]:
    targets = Naming.of(config.routing.aliases).aliases
    for alias, models in targets.items():
        if wrong := _wrong_name((alias, *(models or ("",)))):
            yield Fault(("routing", "aliases", alias), wrong)
        if repeated := _name_on_cycle(alias, targets):
            problem = f"Circular alias detected: '{shown(alias)}' eventually points back to '{shown(repeated)}'"
            yield Fault(("routing", "aliases", alias), problem)
        elif _hops(alias, targets) > MAX_ALIAS_HOPS:
            yield Fault(("routing", "aliases", alias), f"takes more than {MAX_ALIAS_HOPS} hops to a model")


def _name_on_cycle(start: str, targets: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return a name on a cycle that is reachable from *start*, None when there is no cycle."""
    finished: set[str] = set()
    path = {start: iter(targets.get(start, ()))}
    while path:
        name, remaining = next(reversed(path.items()))
        target = next(remaining, None)
        if target is None:
            finished.add(name)
            del path[name]
        elif target in path:
            return target
        elif target not in finished:
            path[target] = iter(targets.get(target, ()))
    return None


def _hops(start: str, targets: Mapping[str, tuple[str, ...]]) -> int:
    """Return the hops from *start* to its furthest model; beyond the limit, the limit and one."""
    names = {start}
    for hops in range(MAX_ALIAS_HOPS + 1):
        names = {target for name in names for target in targets.get(name, ())}
        if not names:
            return hops
    return MAX_ALIAS_HOPS + 1


def _fallbacks(config: Config) -> Iterator[Fault]:
    for model, others in config.routing.fallbacks.items():
        if wrong := _wrong_name((model, *others)):
            yield Fault(("routing", "fallbacks", model), wrong)
        if model in others:
            yield Fault(("routing", "fallbacks", model), "a model cannot be its own fallback")


def _wrong_name(names: Iterable[str]) -> str | None:
    """Return what is wrong with the first of *names* that cannot be a model, None when all are valid."""
    for name in names:
        if not name.strip():
            return "expected the name of a model, got an empty one"
        if name != name.strip():
            return f"expected the name of a model without blanks around it, got '{shown(name)}'"
    return None


def _backend_names(config: Config) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, backend in enumerate(config.backends):
        path = ("backends", index, "name")
        if not _NAME.fullmatch(backend.name):
            yield Fault(path, f"{EXPECTED_NAME}, got '{shown(backend.name)}'")
        if backend.name.lower() == NO_BACKEND:
            yield Fault(
                path, f"'{backend.name}' stands for no backend in headers, logs and metrics", "choose another name"
            )
        if backend.name in seen:
            yield Fault(path, f"two backends are named '{backend.name}'", "names are unique")
        seen.add(backend.name)


def _backend_urls(config: Config) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for index, backend in enumerate(config.backends):
        if other := seen.get(backend.url):
            hint = "one backend per server is enough: its models are detected"
            yield Fault(("backends", index, "url"), f"the backend '{other}' has the same URL, {backend.url}", hint)
        seen[backend.url] = backend.name


def _backend_words(config: Config) -> Iterator[Fault]:
    for index, backend in enumerate(config.backends):
        zones = {("zone",): backend.zone} | {("models", name, "zone"): m.zone for name, m in backend.models.items()}
        for path, zone in zones.items():
            if zone is not None and zone not in ZONES:
                expected = f"expected 'restricted' or 'open', got '{shown(zone)}'"
                yield Fault(("backends", index, *path), expected, did_you_mean(zone, ZONES, before=""))
        if backend.protocols == ():
            yield Fault(("backends", index, "protocols"), "expected at least one", "leave it out for those of its kind")
        for protocol in backend.protocols or ():
            if protocol.partition(".")[0] not in PROTOCOLS:
                expected = f"expected any of {', '.join(PROTOCOLS)}, or their endpoints, got '{shown(protocol)}'"
                yield Fault(("backends", index, "protocols"), expected, did_you_mean(protocol, PROTOCOLS, before=""))


def _translation_pairs(config: Config) -> Iterator[Fault]:
    for name in config.translation.disabled_pairs:
        if name not in PAIRS:
            expected = f"expected translations such as '{PAIRS[0]}', got '{shown(name)}'"
            yield Fault(("translation", "disabled_pairs"), expected, did_you_mean(name, PAIRS, before=""))


def _backend_headers(config: Config) -> Iterator[Fault]:
    for index, backend in enumerate(config.backends):
        seen: set[str] = set()
        for name, value in backend.headers.items():
            path = ("backends", index, "headers", name)
            if not _HEADER_NAME.fullmatch(name):
                yield Fault(path, "expected the name of a header", "use letters, digits and hyphens")
            if name.lower() in RESERVED_HEADERS or name.lower().startswith("x-nexus-"):
                yield Fault(path, "is a header that the proxy sets itself", "leave it out")
            if name.lower() in seen:
                yield Fault(path, "is set twice, in different letter case", "keep one of them")
            if not _HEADER_VALUE.fullmatch(value):
                hint = "keep to visible ASCII characters, with spaces only between them"
                yield Fault(path, "holds a character that is not allowed in a header value", hint)
            seen.add(name.lower())
        for name in backend.query:
            if not name:
                yield Fault(("backends", index, "query"), "expected the name of a parameter, got an empty one")


def _backend_files(config: Config) -> Iterator[Fault]:
    for index, backend in enumerate(config.backends):
        for key in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
            name = getattr(backend, key)
            if name is not None and (problem := _why_no_file(name)):
                yield Fault(("backends", index, key), f"{problem}: {shown_path(name)}")
        if backend.tls_key_file is not None and backend.tls_cert_file is None:
            yield Fault(("backends", index, "tls_key_file"), "has no certificate", "set tls_cert_file too")


def _why_no_file(name: str) -> str | None:
    """Return why *name* is no file, None when it is one."""
    try:
        if Path(name).is_file():
            return None
        return "expected a file, got a folder" if Path(name).is_dir() else "no such file"
    except ValueError:  # a NUL, before Python 3.13
        return "no such file"


def _watched_files(config: Config) -> Iterator[Fault]:
    paths: list[str] = []
    for index, source in enumerate(config.discovery.file):
        at = ("discovery", "file", index)
        if not source.path.strip():
            yield Fault((*at, "path"), "expected the name of a file, got an empty one")
        if source.path in paths:
            yield Fault((*at, "path"), f"two entries watch {shown_path(source.path)}", "one is enough")
        paths.append(source.path)
        for place, pattern in enumerate(source.references):
            if not pattern.startswith(("env:", "file:")):
                hint = "env:NAME and file:PATH are references, and * in them stands for anything"
                yield Fault((*at, "references", place), f"'{shown(pattern)}' allows no reference", hint)


def _scanned_hosts(config: Config) -> Iterator[Fault]:
    yield from faults_of(config.discovery.hosts)


def _otel(config: Config) -> Iterator[Fault]:
    if config.otel.endpoint is not None:
        try:
            urls.normalised(config.otel.endpoint)
        except ValueError as exc:
            problem = str(exc).replace("use api_key", "use otel.headers")
            yield Fault(("otel", "endpoint"), f"bad URL: {problem}")
    for name in config.otel.headers:
        if not _HEADER_NAME.fullmatch(name):
            yield Fault(("otel", "headers", name), "expected the name of a header")


RULES: Final[tuple[Callable[[Config], Iterator[Fault]], ...]] = (
    _server,
    _weights,
    _aliases,
    _fallbacks,
    _backend_names,
    _backend_urls,
    _backend_words,
    _translation_pairs,
    _backend_headers,
    _backend_files,
    _watched_files,
    _scanned_hosts,
    _otel,
)
