"""Commands that plugins contribute, with errors that name the plugin."""

from collections.abc import Iterable
from copy import copy
from functools import partial
from typing import Any, Final

import click

from nexus.app.composition.blueprint import load_plugins
from nexus.cli.arguments.options import Chosen
from nexus.containment import contained
from nexus.errors import NexusError, did_you_mean
from nexus.plugin_manager import Plugin

INTENDED: Final = (
    *(NexusError, click.ClickException, click.Abort, click.exceptions.Exit),
    *(SystemExit, EOFError, BrokenPipeError),
)
"""Exceptions with which a command ends on purpose."""


def plugin_command(name: str, chosen: Chosen | None, built_in: Iterable[str]) -> click.Command | None:
    """Return the command *name* of a plugin, None when there is none.

    :raises NexusError: the configuration or a plugin is wrong, so that its commands are unknown.
    """
    chosen, hint = chosen or Chosen(), did_you_mean(name, built_in)
    try:
        loaded = chosen.load_quietly()
        plugins = load_plugins(loaded, chosen.plugin_files)
        commands = plugins.configure(loaded.config.plugins, error=loaded.error).commands()
    except NexusError as exc:
        raise type(exc)(
            f"'{name}' is no command of Nexus itself, and those of plugins cannot be read: {exc}{hint}"
        ) from exc
    found = next((_contained(*owned) for owned in commands if owned[1].name == name), None)
    if found is None and plugins.not_loaded:
        idle = ", ".join(sorted(candidate.name for candidate in plugins.not_loaded))
        raise click.UsageError(f"there is no command '{name}'{hint}; plugins that are installed and not loaded: {idle}")
    return found


def _contained(plugin: Plugin, command: click.Command) -> click.Command:
    """Return *command*, which raises a PluginError for every exception that is not :data:`INTENDED`."""
    guarded = copy(command)
    complaint = f"plugin {plugin.label}: its command '{command.name}' failed"
    for part in ("make_context", "invoke"):
        setattr(guarded, part, partial(_call, complaint, partial(getattr(type(command), part), guarded)))
    return guarded


def _call(complaint: str, part: Any, *args: Any, **kwargs: Any) -> Any:
    with contained(complaint, passing=INTENDED):
        return part(*args, **kwargs)
