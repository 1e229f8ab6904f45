"""Loads the file, ``NEXUS_*`` variables and command line as one checked configuration, or raises ``ConfigError``."""

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from nexus.config.faults import Fault, KeyPath, Origin
from nexus.config.provenance import Provenance, Setting
from nexus.config.quoting import shown
from nexus.config.rules import checks, unused
from nexus.config.schema import ApiKeyConfig, Config
from nexus.config.secrets import Credentials, KeyRing, Secret, Vault
from nexus.config.sources import env, texts
from nexus.config.sources.decoding import decoded
from nexus.errors import ConfigError

DEFAULT_FILE: Final = Path("nexus.toml")
WITHOUT_A_FILE: Final = Origin("configuration")
COMMAND_LINE: Final = Origin("command line")


class LoadedConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration, its secrets, and what set its keys."""

    config: Config
    source: Path | None = None
    """The file that was read, None when there was none."""
    warnings: tuple[str, ...] = ()
    """Probable mistakes, which do not prevent a start."""
    explicitly_set: frozenset[str] = frozenset()
    """The dotted keys that file, environment or command line set."""
    server_keys: KeyRing = KeyRing(())
    """The resolved ``server.api_keys``."""
    named_keys: Mapping[bytes, ApiKeyConfig] = {}
    """The tables of ``server.api_keys``, by the SHA-256 digest of their key."""
    admin_keys: KeyRing = KeyRing(())
    """The resolved ``server.admin_keys``."""
    backend_keys: Mapping[str, Secret] = {}
    """By the name of the backend; only for backends that have one."""
    credentials: Mapping[str, Credentials] = {}
    """Other credentials of each backend, by its name."""
    otel_headers: Mapping[str, Secret] = {}
    """The resolved ``otel.headers``, by the name of the header."""
    secrets: tuple[Secret, ...] = ()
    """All secrets, for the log to hide."""
    provenance: Provenance = Provenance(WITHOUT_A_FILE, {})
    contents: Mapping[str, bytes] = {}
    """What was read from each file, the configuration's and those of its secrets, by name."""

    def is_set(self, key: str) -> bool:
        """Whether file, environment or command line set the dotted *key*."""
        return key in self.explicitly_set

    def error(self, fault: Fault) -> ConfigError:
        """Return *fault*, found by another package, with its source, line and key."""
        return self.provenance.error(fault)


def load(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    insecure: bool = False,
    contents: Mapping[str, bytes] | None = None,
) -> LoadedConfig:
    """Return the configuration from *path*, *environ* and *overrides*; for each key, the last of these wins.

    :param path: the file; None for the one that ``NEXUS_CONFIG`` names or else ``nexus.toml``, which need not exist.
    :param overrides: values by dotted key; a text is read as the key's type.
    :param insecure: whether other machines may connect without a key.
    :param contents: the :attr:`LoadedConfig.contents` of an earlier call, which are used instead of the files, with its
        ``source`` as *path*; None: the files are read.
    :raises ConfigError: any of it is wrong; nothing else is raised.
    """
    source = source_of(path, environ) if contents is None else path
    vault = Vault(environ, contents)
    file = origin_of(source, vault.contents)
    tree = parsed(file)
    from_env, unknown = env.settings(environ)
    settings = from_env | from_command_line(overrides)
    provenance = Provenance(file, settings)
    try:
        _apply(settings, tree)
        given = frozenset(_leaves(tree))
        config, logins = checks.without_logins(decoded(tree, Config))
        config = checks.normalised(config)
        checks.check(config, insecure=insecure)
        unused.check_store(config, given)
        named_keys = vault.api_key_digests(config)
        server_keys, admin_keys = vault.server_keys(config), vault.admin_keys(config)
        backend_keys = vault.backend_keys(config)
        credentials = vault.credentials(config, logins)
        otel_headers = vault.otel_headers(config)
    except Fault as fault:
        raise provenance.error(fault) from fault
    return LoadedConfig(
        config=config,
        source=source,
        warnings=(
            *warnings_of(unknown, tree),
            *vault.warnings,
            *(str(provenance.error(found)) for found in unused.unused(config, given)),
        ),
        explicitly_set=given,
        server_keys=server_keys,
        named_keys=named_keys,
        admin_keys=admin_keys,
        backend_keys=backend_keys,
        credentials=credentials,
        otel_headers=otel_headers,
        secrets=tuple(vault.found),
        provenance=provenance,
        contents=vault.contents,
    )


def check_kinds(loaded: LoadedConfig, known: Iterable[str]) -> None:
    """Raise ConfigError for a backend of an unknown kind; called when the kinds of plugins are known."""
    try:
        checks.check_kinds(loaded.config, known)
    except Fault as fault:
        raise loaded.error(fault) from fault


def source_of(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read, None when none was named and the default one does not exist."""
    if path is None and environ.get("NEXUS_CONFIG"):
        path = Path(environ["NEXUS_CONFIG"])
    if path is not None:
        return path
    try:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    except OSError as exc:
        # For example in the home of another user, where existence cannot be determined.
        problem = f"cannot be searched in the working directory: {exc.strerror}"
        raise ConfigError(f"{DEFAULT_FILE}: {problem}; change to another, or name a file with --config") from exc


def origin_of(source: Path | None, contents: dict[str, bytes] | None = None) -> Origin:
    """Return *source* with its text; raise ConfigError when it cannot be read.

    :param contents: files that were read before; what is read is added.
    """
    return (
        WITHOUT_A_FILE if source is None else Origin(str(source), _text(source, {} if contents is None else contents))
    )


def _text(source: Path, contents: dict[str, bytes]) -> str:
    try:
        if str(source) not in contents:
            contents[str(source)] = source.read_bytes()
        # Editors on Windows write a byte order mark, which TOML does not allow.
        return contents[str(source)].decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{source}: no such file; `nexus-proxy config init` writes one") from None
    except OSError as exc:
        raise ConfigError(f"{source}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{source}: expected UTF-8, got something else at byte {exc.start}") from exc
    except ValueError as exc:
        raise ConfigError(f"{shown(str(source))}: not the name of a file") from exc


def parsed(file: Origin) -> dict[str, Any]:
    """Return the tables of *file*; raise ConfigError when it is no TOML."""
    try:
        return tomllib.loads(file.toml or "")
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{file.label}: not valid TOML: {shown(str(exc))}") from exc
    except RecursionError:
        raise ConfigError(f"{file.label}: not valid TOML: nested too deeply") from None
    except ValueError as exc:
        # For example an integer with more digits than Python converts.
        raise ConfigError(f"{file.label}: not valid TOML: {shown(str(exc))}") from exc


def from_command_line(
    overrides: Mapping[str, object], *, only: Collection[KeyPath] | None = None
) -> dict[KeyPath, Setting]:
    """Return the settings of *overrides* by path.

    :param only: the keys to return; None for all.
    """
    found: dict[KeyPath, Setting] = {}
    for dotted, value in overrides.items():
        try:
            path = texts.path_of(dotted)
        except ValueError:
            raise ConfigError(f"command line: '{shown(dotted)}' is not a key, such as server.port") from None
        if only is not None and path not in only:
            continue
        plain = list(value) if isinstance(value, tuple) else value
        is_text = isinstance(value, str)
        found[path] = env.from_text(str(value), path, COMMAND_LINE) if is_text else Setting(plain, COMMAND_LINE)
    return found


def _apply(settings: Mapping[KeyPath, Setting], tree: dict[str, Any]) -> None:
    """Put *settings* into *tree*, tables before single keys in them."""
    for path in sorted(settings, key=len):
        node = tree
        for depth, part in enumerate(path[:-1], start=1):
            node = node.setdefault(str(part), {})
            if not isinstance(node, dict):
                raise Fault(path[:depth], "expected a table")
        node[str(path[-1])] = settings[path].value


def warnings_of(variables: frozenset[str], tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield a warning for each of *variables* that *tree* does not reference as a secret."""
    return map(env.warning_of, sorted(variables.difference(_named_variables(tree))))


def _named_variables(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, str):
        yield node if key == "api_key_env" else node.removeprefix("env:")
    elif isinstance(node, dict):
        for name, item in node.items():
            yield from _named_variables(item, name)
    elif isinstance(node, list):
        for item in node:
            yield from _named_variables(item)


def _leaves(node: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Yield the dotted key of each value in *node* that is no table."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}"
