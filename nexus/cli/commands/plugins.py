"""``nexus-proxy plugins``: lists installed plugins, what each contributes, and why one is not loaded."""

import platform
from collections.abc import Iterator, Sequence

import click

from nexus import __version__
from nexus.admin.plugins.inventory import PluginRow, StageRow, broken_inventory, inventory
from nexus.app.composition.blueprint import file_name, load_plugins
from nexus.cli.arguments.option_order import Section
from nexus.cli.arguments.options import Chosen, configuration, warn
from nexus.cli.commands.plugin_check import command as check
from nexus.cli.output.columns import Layout
from nexus.cli.output.printing import json_option, print_json, table
from nexus.config.loading import LoadedConfig
from nexus.errors import NexusError
from nexus.plugin_manager import find_plugins
from nexus.routing.assembly import build_router


@click.group("plugins", cls=Section, invoke_without_command=True)
@configuration
@json_option
def command(chosen: Chosen, *, as_json: bool) -> None:
    """List the plugins that are installed, and what each contributes or why it does not."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    rows, error = installed_plugins(chosen)
    if as_json:
        print_json({"plugins": rows})
    else:
        click.echo("\n".join(_lines(rows)))
    if error is not None:
        raise error


command.add_command(check)


def listing() -> str:
    """Return the plugins of the default configuration, one per line, and the error that keeps them from loading."""
    rows, error = installed_plugins(Chosen())
    lines = table([_line(row) for row in rows], indent="  ", layout=Layout(cut=(2, 1), leave_out=(3,)))
    block = f"plugins:\n{lines}" if rows else "plugins: none"
    return block if error is None else f"{block}\n(not loaded: {error})"


def print_version_as_json() -> None:
    """Print the versions of Nexus and Python, and the plugins of the default configuration."""
    rows, error = installed_plugins(Chosen())
    versions = {"version": __version__, "python": platform.python_version()}
    print_json({**versions, "plugins": rows, "error": None if error is None else str(error)})


def installed_plugins(chosen: Chosen) -> tuple[Sequence[PluginRow], NexusError | None]:
    """Return the installed plugins, and the error that keeps them from being loaded."""
    loaded: LoadedConfig | None = None
    try:
        loaded = chosen.load_quietly()
        plugins = load_plugins(loaded, chosen.plugin_files)
        warn(plugins.misnamed(loaded.config.plugin_loading, loaded.provenance))
        contributions = plugins.configure(loaded.config.plugins, error=loaded.error)
        router = build_router(loaded.config.routing, contributions, file=file_name(loaded))
        return inventory(loaded, plugins, contributions, router.pipeline.stages), None
    except NexusError as exc:
        files = [path for path in chosen.plugin_files if path.is_file()]
        return broken_inventory(loaded, find_plugins(files), exc), exc


def _line(row: PluginRow) -> tuple[str, ...]:
    if not row.enabled:
        return row.name, _origin(row), row.reason if row.reason.startswith(("disabled", "no table")) else ""
    stages = ", ".join(stage.name for stage in row.stages)
    return (
        row.name,
        _origin(row),
        f"stages: {stages}" if stages else f"hooks: {', '.join(row.hooks)}",
        f"config: {row.config_table}" if row.config_table else "",
    )


def _lines(rows: Sequence[PluginRow]) -> Iterator[str]:
    if not rows:
        yield "no plugin is installed"
    for row in rows:
        yield f"{row.name}  {_origin(row)}  {'enabled' if row.enabled else row.reason}"
        facts = (
            ("stages", ", ".join(map(_stage, row.stages))),
            ("hooks", ", ".join(row.hooks)),
            ("config", row.config_table or ""),
            ("policy keys", ", ".join(row.policy_keys)),
            ("stability", row.stability),
        )
        yield from (f"  {name}: {fact}" for name, fact in facts if fact)


def _stage(stage: StageRow) -> str:
    moved = f", moved from {stage.declared_priority}" if stage.priority != stage.declared_priority else ""
    observes = ", observes only" if stage.observes_only else ""
    return f"{stage.priority} {stage.name} ({stage.on_error}s on error{moved}{observes})"


def _origin(row: PluginRow) -> str:
    return f"{row.distribution} {row.version}".rstrip()
