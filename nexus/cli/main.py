"""``nexus-proxy``: finds the command, loads its module alone, and turns errors into exit codes."""

import os
import platform
import signal
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from nexus import __version__
from nexus.errors import ConfigError, NexusError, did_you_mean

COMMANDS: Final[Mapping[str, str]] = {
    "serve": "nexus.cli.serve",
    "check": "nexus.cli.check",
    "pipeline": "nexus.cli.pipeline",
    "plugins": "nexus.cli.plugins",
    "explain": "nexus.cli.explain",
    "backends": "nexus.cli.backends",
    "models": "nexus.cli.models",
    "health": "nexus.cli.health",
    "config": "nexus.cli.config",
    "demo": "nexus.cli.demo",
    "completions": "nexus.cli.completions",
}
"""Each command and its module, which is imported when the command is called for: a short one starts fast."""


class StartFailure(click.ClickException):
    """Nexus cannot start; the operator reads one line, and a script a number."""

    exit_code = 1

    def show(self, file: Any = None) -> None:
        click.echo(f"nexus-proxy: {self.message}", err=True, file=file)


class ConfigFailure(StartFailure):
    """It is the configuration that is wrong."""

    exit_code = os.EX_CONFIG


class NexusProxy(click.Group):
    """The group of all commands, those of plugins among them; without a command, ``serve``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A shell that asks for completions leaves out the word that is being typed: it may be the name of a command.
        is_bare = not args and not ctx.resilient_parsing
        is_for_serve = is_bare or (args and args[0].startswith("-") and args[0] not in {"--help", "--version"})
        return super().parse_args(ctx, ["serve", *args] if is_for_serve else args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        serve = import_module(COMMANDS["serve"]).command
        options = serve.shell_complete(click.Context(serve, info_name="serve", parent=ctx), incomplete)
        found = {item.value: item for item in (*super().shell_complete(ctx, incomplete), *options)}
        return list(found.values())

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            command: click.Command = import_module(COMMANDS[cmd_name]).command
            return command
        return None if ctx.resilient_parsing else _of_a_plugin(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name == "serve":
            # Its module takes a while to load; a reload asked for meanwhile has nothing to do, and must not end it.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            ctx.fail(f"there is no command '{name}'{did_you_mean(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as exc:
            raise ConfigFailure(str(exc)) from exc
        except NexusError as exc:
            raise StartFailure(str(exc)) from exc


def _of_a_plugin(name: str) -> click.Command | None:
    """Return the command of that name which a plugin contributes, None when there is none."""
    from nexus.app.blueprint import load_plugins
    from nexus.cli.options import Chosen

    loaded = Chosen().load()
    contributions = load_plugins(loaded).configure(loaded.config.plugins, error=loaded.error)
    return next((command for _, command in contributions.commands() if command.name == name), None)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    if not value or ctx.resilient_parsing:
        return
    from nexus.cli.plugins import listing

    click.echo(f"nexus-proxy {__version__} (python {platform.python_version()})")
    click.echo(listing())
    ctx.exit()


@click.group(cls=NexusProxy, context_settings={"help_option_names": ["--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print what is installed.",
)
def main() -> None:
    """One door in front of a fleet of LLM servers.

    Without a command it serves, with the options of serve.
    """
