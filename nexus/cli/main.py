"""``nexus-proxy``: finds the command, imports its module only, and maps errors to exit codes."""

import platform
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, add_completion_class

from nexus import __version__
from nexus.app.process import huge_pages
from nexus.app.process.interpreter import imported
from nexus.cli.arguments.bash_completion import BashCompletion
from nexus.cli.arguments.option_order import Section, command_first, left_over
from nexus.cli.exit_codes import ExitCode, exit_code_of
from nexus.cli.standard_streams import drop_output, forgive_closed_output, open_closed_streams, output_failure
from nexus.containment import interrupts_noted
from nexus.errors import NexusError

add_completion_class(BashCompletion)

COMMANDS: Final[Mapping[str, str]] = {
    "serve": "nexus.cli.commands.serve",
    "check": "nexus.cli.commands.check",
    "pipeline": "nexus.cli.commands.pipeline",
    "plugins": "nexus.cli.commands.plugins",
    "explain": "nexus.cli.commands.explain",
    "backends": "nexus.cli.commands.backends",
    "models": "nexus.cli.commands.models",
    "queue": "nexus.cli.commands.queue",
    "decisions": "nexus.cli.commands.decisions",
    "health": "nexus.cli.commands.health",
    "config": "nexus.cli.commands.config",
    "announce": "nexus.cli.commands.announce",
    "demo": "nexus.cli.commands.demo",
    "completions": "nexus.cli.commands.completions",
}
"""The module of each command. Only the one that is called is imported, so that short commands start fast."""

OTHER_COMMANDS: Final = frozenset(COMMANDS) - {"serve"}
AS_JSON: Final = "nexus.cli.main.as_json"
GROUP_OPTIONS: Final = frozenset({"-h", "--help", "--version"})


class Failure(click.ClickException):
    """An error that ends a command: one line on standard error, and the exit code of the error."""

    def __init__(self, error: NexusError) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code_of(error)  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        click.echo(f"nexus-proxy: {self.message}", err=True, file=file)


class NexusProxy(Section):
    """The group of all commands, including those of plugins; ``serve`` is the default."""

    def main(self, *args: Any, **extra: Any) -> Any:
        open_closed_streams()
        if _probably_serve(sys.argv[1:]):
            huge_pages.start_again()
        return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _handled_output_errors():
            return super().make_context(*args, **extra)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return click.Group.parse_args(self, ctx, self._in_order(ctx, args))

    def _in_order(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            # Shells omit the word that is being completed, which may be a command.
            return [] if ctx.resilient_parsing else ["serve"]
        if args[0] == "--version" or (GROUP_OPTIONS.intersection(args) and left_over(self, ctx, args) == []):
            # Click calls the callbacks in this order, and --version needs to know about --json.
            return ["--json", *args] if "--json" in args else args
        return command_first(self, ctx, args) or (self._options_first(ctx, args) if args[0].startswith("-") else args)

    def _options_first(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Return *args*, which begin with an option, with the command first that accepts or refuses them.

        That is ``serve``, a command of a plugin, or the built-in command that does not have such an option.
        """
        from nexus.cli.arguments.options import only_options

        rest = [] if ctx.resilient_parsing else left_over(only_options, ctx, args)
        if rest == []:
            return ["serve", *args]
        if rest is None:
            position = next((i for i, word in enumerate(args) if word in COMMANDS), None)
            return ["serve", *args] if position is None else _moved_to_front(args, position)
        position = len(args) - len(rest)
        if args[position] in COMMANDS:
            return _moved_to_front(args, position)
        ctx.obj = only_options.main(args[:position], prog_name="nexus-proxy", standalone_mode=False)
        return rest

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        serve = imported(COMMANDS["serve"]).command
        options = serve.shell_complete(click.Context(serve, info_name="serve", parent=ctx), incomplete)
        found = {item.value: item for item in (*super().shell_complete(ctx, incomplete), *options)}
        return list(found.values())

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def own_command(self, ctx: click.Context, name: str) -> click.Command | None:
        del ctx
        command: click.Command | None = imported(COMMANDS[name]).command if name in COMMANDS else None
        return command

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = self.own_command(ctx, cmd_name)
        if own is not None or ctx.resilient_parsing:
            return own
        from nexus.cli.plugin_commands import plugin_command

        return plugin_command(cmd_name, ctx.obj, COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "serve":
            # While its module is imported, a SIGHUP must not end the process: there is nothing to reload yet.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            forgive_closed_output()
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interrupts_noted(), _handled_output_errors():
                return super().invoke(ctx)
        except NexusError as exc:
            raise Failure(exc) from exc


def _probably_serve(words: Sequence[str]) -> bool:
    """Whether *words* start the proxy, as far as can be told before the modules that parse them are imported."""
    is_serve = not words or words[0] == "serve" or words[0].startswith("-")
    return is_serve and OTHER_COMMANDS.isdisjoint(words) and GROUP_OPTIONS.isdisjoint(words)


def _moved_to_front(args: list[str], position: int) -> list[str]:
    return [args[position], *args[:position], *args[position + 1 :]]


@contextmanager
def _handled_output_errors() -> Iterator[None]:
    """End silently when the reader closes the pipe, as ``head`` does, and with a message when output is lost."""
    try:
        yield
        if (failure := output_failure()) is not None:
            raise failure
    except BrokenPipeError as exc:
        drop_output()
        raise click.exceptions.Exit(ExitCode.CLOSED_PIPE) from exc
    except (OSError, NexusError) as exc:
        if (failure := output_failure(exc)) is None:
            raise
        drop_output()
        click.echo(f"nexus-proxy: standard output cannot be written: {failure.strerror}", err=True)
        raise click.exceptions.Exit(ExitCode.OUTPUT_LOST) from exc


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    if not value or ctx.resilient_parsing:
        return
    from nexus.cli.commands.plugins import listing, print_version_as_json

    if ctx.meta.get(AS_JSON):
        print_version_as_json()
    else:
        click.echo(f"nexus-proxy {__version__} (python {platform.python_version()})")
        click.echo(listing())
    ctx.exit()


def _note_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    del param
    ctx.meta[AS_JSON] = value


@click.group(cls=NexusProxy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print what is installed.",
)
@click.option(
    "--json", is_flag=True, is_eager=True, expose_value=False, callback=_note_json, help="With --version: print JSON."
)
def main() -> None:
    """An HTTP proxy in front of a fleet of LLM servers.

    Without a command it serves, with the options of serve. Options may be given before a command as well as after it.
    """
