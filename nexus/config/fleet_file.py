"""Reads the backends of a watched file, with the checks of the configuration; one fault rejects the whole file."""

import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any, Final

from nexus.config.discovery_schema import FileSourceConfig
from nexus.config.faults import Fault, KeyPath, Origin, described
from nexus.config.one_backend import LoadedBackend, references_in
from nexus.config.quoting import shown
from nexus.config.rules import checks
from nexus.config.schema import BackendConfig, Config
from nexus.config.section import Section
from nexus.config.sources.decoding import decoded
from nexus.errors import ConfigError

Load = Callable[[Mapping[str, Any]], LoadedBackend]
"""Checks the table of one backend and resolves its references."""

MAX_BYTES: Final = 1024 * 1024


class FleetFile(Section, frozen=True):
    """The content of a watched file."""

    backends: tuple[BackendConfig, ...]


def backends_in(content: bytes, source: FileSourceConfig, load: Load, *, most: int) -> tuple[LoadedBackend, ...]:
    """Return the backends in *content*, which was read from the file of *source*.

    :param most: the highest number of backends.
    :raises ConfigError: any of it is wrong; the text names the file, the entry, the key and the line.
    """
    text = _text(content, source.path)
    is_json = source.path.lower().endswith(".json")
    tree = _from_json(text, source.path) if is_json else _from_toml(text, source.path)
    try:
        return _loaded(tree, source, load, most)
    except Fault as fault:
        raise ConfigError(described(_named(fault, tree), Origin(source.path, None if is_json else text))) from fault


def _text(content: bytes, path: str) -> str:
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: longer than {MAX_BYTES // 1024} KiB, the most that is read")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: expected UTF-8, got something else at byte {exc.start}") from exc
    if not text.strip():
        # A program that overwrites a file in place leaves it empty for a moment.
        raise ConfigError(f"{path}: is empty; `backends = []`, or `[]` in JSON, says that there are none")
    return text


def _from_toml(text: str, path: str) -> Any:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as exc:
        raise ConfigError(f"{path}: not valid TOML: {shown(str(exc))}") from exc


def _from_json(text: str, path: str) -> Any:
    try:
        tree = json.loads(text)
    except RecursionError:
        raise ConfigError(f"{path}: not valid JSON: nested too deeply") from None
    except ValueError as exc:
        raise ConfigError(f"{path}: not valid JSON: {shown(str(exc))}") from exc
    # A list alone is accepted, because programs often have just that.
    return {"backends": tree} if isinstance(tree, list) else tree


def _loaded(tree: Any, source: FileSourceConfig, load: Load, most: int) -> tuple[LoadedBackend, ...]:
    listed = decoded(tree, FleetFile).backends
    if len(listed) > most:
        problem = f"lists {len(listed)} backends, but at most {most} are allowed: all watched files share a limit"
        raise Fault(("backends",), problem, "leave some out")
    loaded = []
    for index, (backend, table) in enumerate(zip(listed, tree["backends"], strict=True)):
        for fault in _forbidden(backend, source.references):
            raise Fault(("backends", index, *fault.path), fault.problem, fault.hint)
        try:
            loaded.append(load(table))
        except Fault as fault:
            raise Fault(("backends", index, *fault.path), fault.problem, fault.hint) from fault
    # Rules about several backends: names and addresses are unique.
    checks.check(Config(backends=tuple(each.config for each in loaded)), insecure=True)
    return tuple(loaded)


def _forbidden(backend: BackendConfig, allowed: Iterable[str]) -> Iterator[Fault]:
    """Yield a fault for each reference to a secret that the operator does not allow."""
    for path, value in references_in(backend):
        if value.startswith(("env:", "file:")) and not _is_allowed(value, allowed):
            hint = f'add "{shown(value)}" to references in [[discovery.file]] if it may'
            yield Fault(path, f"this file may not name the secret {shown(value)}", hint)


def _is_allowed(reference: str, patterns: Iterable[str]) -> bool:
    # A pattern for a folder must not match a path that leaves the folder.
    stays_below = ".." not in PurePath(reference.removeprefix("file:")).parts
    return stays_below and any(fnmatchcase(reference, pattern) for pattern in patterns)


def _named(fault: Fault, tree: Any) -> Fault:
    """Return *fault* with the name of its backend: an index is hard to find, and faults in JSON have no line."""
    name = _name_at(fault.path, tree)
    return fault if name is None else Fault(fault.path, f"'{shown(name)}': {fault.problem}", fault.hint)


def _name_at(path: KeyPath, tree: Any) -> str | None:
    match path:
        case ("backends", int(index), *_):
            entry = tree["backends"][index]
            name = entry.get("name") if isinstance(entry, dict) else None
            return name if isinstance(name, str) else None
    return None
