"""``nexus-proxy plugins``: what is installed, what each plugin contributes, and why one is not loaded."""

from collections.abc import Iterator, Sequence

import click

from nexus.app.blueprint import load_plugins
from nexus.cli.columns import in_columns
from nexus.cli.options import Chosen, configuration
from nexus.config.loading import LoadedConfig
from nexus.errors import NexusError
from nexus.plugin_manager import Candidate, Contributions, PluginManager, find_plugins


@click.command("plugins")
@configuration
def command(chosen: Chosen) -> None:
    """List the plugins that are installed, with their stages and tables."""
    loaded = chosen.load_quietly()
    click.echo(_listed(loaded, load_plugins(loaded, chosen.plugin_files)))


def listing() -> str:
    """Return the plugins of the usual configuration; where that is wrong, what is installed, and the error."""
    try:
        loaded = Chosen().load_quietly()
        return _listed(loaded, load_plugins(loaded))
    except NexusError as exc:
        found = [(candidate.name, _origin(candidate)) for candidate in find_plugins()]
        return "\n".join((_block(found), f"(not loaded: {exc})"))


def _listed(loaded: LoadedConfig, manager: PluginManager) -> str:
    contributions = manager.configure(loaded.config.plugins)
    rows = [*_loaded_rows(manager, contributions), *_other_rows(manager, loaded)]
    return _block(sorted(rows))


def _loaded_rows(manager: PluginManager, contributions: Contributions) -> Iterator[tuple[str, ...]]:
    for plugin in manager.plugins:
        stages = ", ".join(contributions.stages_of(plugin.name))
        yield (
            plugin.name,
            f"{plugin.distribution} {plugin.version}".rstrip(),
            f"stages: {stages}" if stages else f"hooks: {', '.join(sorted(plugin.hooks))}",
            f"config: [plugins.{plugin.name}]" if contributions.takes_table(plugin.name) else "",
        )


def _other_rows(manager: PluginManager, loaded: LoadedConfig) -> Iterator[tuple[str, ...]]:
    for candidate in manager.not_loaded:
        is_disabled = candidate.name in loaded.config.plugin_loading.disabled
        why = f"disabled by {_disabled_by(loaded)}" if is_disabled else "no table, and autoload is off"
        yield candidate.name, _origin(candidate), why


def _disabled_by(loaded: LoadedConfig) -> str:
    return loaded.provenance.origin_of(("plugin_loading", "disabled")).label


def _origin(candidate: Candidate) -> str:
    return f"{candidate.origin} {candidate.version}".rstrip()


def _block(rows: Sequence[tuple[str, ...]]) -> str:
    return f"plugins:\n{in_columns(rows, indent='  ')}" if rows else "plugins: none"
