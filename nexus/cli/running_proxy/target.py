"""Chooses the proxy that a command talks to: by its URL, by a state file, or by the configured address."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from nexus.app.process.state_file import Running, running_proxies
from nexus.cli.arguments.options import Chosen, configuration, warn
from nexus.cli.exit_codes import SeveralProxies
from nexus.cli.running_proxy.proxy import Proxy, listing
from nexus.config.faults import Fault
from nexus.config.partial import PartialConfig, load_partial
from nexus.config.rules.urls import normalised
from nexus.config.secrets import Secret, Vault
from nexus.errors import ConfigError

T = TypeVar("T")

NOT_FOR_ROUTING: Final = frozenset({"server", "logging"})
REFERENCES: Final = ("env:", "file:")
ADDRESS_KEYS: Final = frozenset({"server.host", "server.port"})


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The options that choose the proxy."""

    chosen: Chosen
    url: str | None = None
    api_key: str | None = None
    """A reference to the key to send."""

    @property
    def is_named(self) -> bool:
        """Whether the command line names one proxy, rather than any that may run."""
        return self.api_key is not None or self._named_url is not None

    def why_offline(self, *, is_requested: bool) -> str:
        """Return why no running proxy is asked; empty to ask one.

        :raises click.UsageError: offline is requested, and a proxy is named.
        """
        if is_requested and (self.url or self.api_key):
            raise click.UsageError("--offline does not ask a proxy; leave out --url and --api-key")
        if is_requested:
            return "as --offline says"
        sections = {key.partition(".")[0] for key in self.chosen.overrides}
        if not self.is_named and (self.chosen.plugin_files or not sections <= NOT_FOR_ROUTING):
            return "a running proxy does not have the options given here"
        return ""

    def proxy(self, *, is_admin: bool = False) -> Proxy:
        """Return the proxy; the keys of a configuration are sent only to the proxy that uses it.

        :param is_admin: whether an administrator's key is needed.
        :raises SeveralProxies: the choice is ambiguous.
        :raises ConfigError: only the configuration has the address, and that part of it is wrong.
        """
        key = _key_at(self.api_key, "--api-key") if self.api_key is not None else None
        url = self._named_url
        if url is not None:
            # The configuration here may be that of another proxy, so it is not read.
            return Proxy(_normalised(url, "--url" if self.url else "NEXUS_URL"), key or _from_variable(os.environ))
        seen = load_partial(self.chosen.path, environ=os.environ, overrides=self.chosen.overrides)
        warn(seen.warnings)
        running = running_proxies(os.environ)
        found = choose(running, seen)
        if found is None and seen.fault is not None:
            raise ConfigError(f"{seen.fault}; say with --url where the proxy is")
        if found is not None and not _is_same_file(found.config, seen.source):
            seen = _started_with(found)
        return Proxy(
            found.url if found is not None else seen.url,
            key or seen.key(os.environ, is_admin=is_admin) or _from_variable(os.environ),
            found=found,
            others=tuple(each for each in running if each is not found),
        )

    @property
    def _named_url(self) -> str | None:
        is_placed = self.chosen.path is not None or not ADDRESS_KEYS.isdisjoint(self.chosen.overrides)
        return self.url or (None if is_placed else os.environ.get("NEXUS_URL") or None)


def choose(running: Sequence[Running], seen: PartialConfig) -> Running | None:
    """Return the matching one of *running*, None to use the address of *seen*.

    A given address is compared first, then the configuration file. Without either, the only running proxy matches.

    :raises SeveralProxies: several match.
    """
    if seen.is_address_set:
        matching = [each for each in running if each.url == seen.url]
    elif seen.source is not None:
        matching = [each for each in running if _is_same_file(each.config, seen.source)]
    else:
        matching = [*running]
    if len(matching) > 1:
        raise SeveralProxies(f"several proxies run: {listing(matching)}; say which with --url")
    return matching[0] if matching else None


def client(command: Callable[..., T]) -> Callable[..., T]:
    """Add the options that choose the proxy to *command*, which gets them as a :class:`Target`."""

    @wraps(command)
    def with_target(chosen: Chosen, *, url: str | None, api_key: str | None, **given: Any) -> T:
        return command(Target(chosen=chosen, url=url, api_key=api_key), **given)

    for option in reversed(_OPTIONS):
        with_target = option(with_target)
    return configuration(with_target)


_OPTIONS: Final = (
    click.option("--url", help="Talk to the proxy there, and read no configuration; else NEXUS_URL."),
    click.option(
        "--api-key", metavar="REFERENCE", help="The key to send to it: env:NAME or file:PATH; else NEXUS_API_KEY."
    ),
)


def _started_with(found: Running) -> PartialConfig:
    """Return the configuration that *found* was started with, whose keys are sent to it."""
    nothing = PartialConfig(source=None, url=found.url)
    if found.config is None:
        return nothing
    try:
        return load_partial(Path(found.config), environ={}, overrides={})
    except ConfigError:
        return nothing


def _is_same_file(one: str | None, other: Path | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return os.path.realpath(one) == os.path.realpath(other)


def _normalised(url: str, said_by: str) -> str:
    try:
        return normalised(url)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint=said_by) from exc


def _key_at(reference: str, said_by: str) -> Secret:
    try:
        return Vault(os.environ).resolve(reference, ())
    except Fault as fault:
        forms = "" if reference.startswith(REFERENCES) else ": write env:NAME or file:PATH"
        raise click.BadParameter(f"{fault}{forms}", param_hint=said_by) from fault


def _from_variable(environ: Mapping[str, str]) -> Secret | None:
    """Return the key that ``NEXUS_API_KEY`` holds."""
    return _key_at("env:NEXUS_API_KEY", "NEXUS_API_KEY") if environ.get("NEXUS_API_KEY", "").strip() else None
