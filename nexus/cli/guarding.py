"""A command of a plugin: whatever it raises is told as that plugin's failure; how it means to end, it says itself."""

from copy import copy
from functools import partial
from typing import Any, Final

import click

from nexus.containment import contained
from nexus.errors import NexusError
from nexus.plugin_manager import Plugin

MEANT: Final = (
    *(NexusError, click.ClickException, click.Abort, click.exceptions.Exit),
    *(SystemExit, EOFError, BrokenPipeError),
)
"""How a command ends on purpose."""


def guarded_command(plugin: Plugin, command: click.Command) -> click.Command:
    """Return *command*, which raises a PluginError where it would raise what no command means."""
    guarded = copy(command)
    complaint = f"plugin {plugin.label}: its command '{command.name}' failed"
    for part in ("make_context", "invoke"):
        setattr(guarded, part, partial(_call, complaint, partial(getattr(type(command), part), guarded)))
    return guarded


def _call(complaint: str, part: Any, *args: Any, **kwargs: Any) -> Any:
    with contained(complaint, passing=MEANT):
        return part(*args, **kwargs)
