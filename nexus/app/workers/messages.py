"""What the parent and a worker send each other; the fleet and the store have messages of their own."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from nexus.app.composition.loading import Choice
from nexus.config.loading import LoadedConfig


class Configuration(msgspec.Struct, frozen=True):
    """One configuration as the parent has read it, so that all workers have the same in force."""

    path: str | None
    """The file that was read; None: there is none."""
    overrides: Mapping[str, object]
    """Of the command line."""
    insecure: bool
    plugin_files: tuple[str, ...]
    contents: Mapping[str, bytes]
    """Of the file and of the files with secrets, by name."""
    generation: int
    """The number of reloads that succeeded before."""

    def load(self) -> LoadedConfig:
        """Return the configuration. :raises ConfigError: it is wrong, which the parent would have found."""
        return self._choice().load(self.contents)

    def paths_of_plugins(self) -> tuple[Path, ...]:
        return self._choice().plugin_files

    def _choice(self) -> Choice:
        return Choice(
            path=None if self.path is None else Path(self.path),
            overrides=self.overrides,
            insecure=self.insecure,
            plugin_files=tuple(map(Path, self.plugin_files)),
        )


def configuration_of(choice: Choice, loaded: LoadedConfig, generation: int) -> Configuration:
    """Return *loaded*, which *choice* has loaded, as a message."""
    return Configuration(
        path=None if loaded.source is None else str(loaded.source),
        overrides=choice.overrides,
        insecure=choice.insecure,
        plugin_files=tuple(map(str, choice.plugin_files)),
        contents=loaded.contents,
        generation=generation,
    )


class Orders(msgspec.Struct, frozen=True):
    """``orders``: the first message to a worker."""

    configuration: Configuration
    sockets: tuple[int, ...]
    """The descriptors of the sockets to accept connections at."""
    others: Mapping[int, tuple[int, ...]]
    """Those of the other workers' sockets, by their numbers; empty if all have the same."""
    url: str
    """The address of the proxy for clients on this machine."""
    index: int
    """The number of this worker, from 1."""
    workers: int
    """How many workers there are to be."""
    log_lock: int
    """The descriptor of the file that is locked while lines are written to the log."""


class Failed(msgspec.Struct, frozen=True):
    """``failed``: why a worker cannot start; it ends then."""

    error: str
    """The name of the exception's class."""
    text: str


class Ready(msgspec.Struct, frozen=True):
    """``ready``: the worker accepts connections."""

    generation: int


class Stop(msgspec.Struct, frozen=True):
    """``stop``: to a worker. A second one replaces the first."""

    lame_duck_s: float = 0.0
    drain_s: float = 0.0
    is_replaced: bool = False
    """Whether another worker accepts connections at the same sockets already."""


class Prepare(msgspec.Struct, frozen=True):
    """``reload.prepare``, a question: start the services of a configuration, and wait for ``reload.finish``."""

    configuration: Configuration


class Finish(msgspec.Struct, frozen=True):
    """``reload.finish``: use what was prepared, or discard it."""

    is_used: bool


class Refused(msgspec.Struct, frozen=True):
    """``reload.refused``: why the last reload was refused, for ``/ready``."""

    reason: str


class Counts(msgspec.Struct, frozen=True):
    """``workers``: how many workers serve, for ``/health``, ``/ready`` and ``/v1/stats``."""

    wanted: int
    ready: int
    unattended: tuple[int, ...] = ()
    """The numbers of those that accept no connections: the others do that for them."""


class Busy(msgspec.Struct, frozen=True):
    """``busy``: how many requests a worker has, on average over the last seconds."""

    requests: float


class Shed(msgspec.Struct, frozen=True):
    """``shed``: how many client connections a worker is to close, each after its current request, until the next."""

    connections: int
