"""Accepts options before the name of a command, by moving them behind it, where click expects them."""

from collections.abc import Sequence

import click

from nexus.errors import did_you_mean


class Section(click.Group):
    """A group that accepts the options of its commands before the command too; the last of two values wins."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, command_first(self, ctx, args) or _first_word_first(self, ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            ctx.fail(self.no_command(ctx, args[0]))
        return args[0], command, args[1:]

    def own_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the built-in command *name*, without loading plugins."""
        return self.get_command(ctx, name)

    def no_command(self, ctx: click.Context, name: str) -> str:
        """Return the error text for an unknown command."""
        return f"there is no command '{name}'{did_you_mean(name, self.list_commands(ctx))}"


def command_first(group: Section, ctx: click.Context, args: Sequence[str]) -> list[str] | None:
    """Return *args* with the command of *group* first, None when no command accepts the options before it.

    A word is the command only if its own options account for every word before it: in ``--host check health``, the
    command is ``health``.
    """
    for position, word in enumerate(args):
        command = None if word.startswith("-") else group.own_command(ctx, word)
        if command is None:
            continue
        before, rest = [*args[:position]], [*args[:position], *args[position + 1 :]]
        below = command_first(command, ctx, rest) if isinstance(command, Section) else None
        if below is not None or left_over(command, ctx, before) == []:
            return [word, *(below or rest)]
    return None


def left_over(command: click.Command, ctx: click.Context, args: Sequence[str]) -> list[str] | None:
    """Return *args* from the first word that is no option of *command*, None when an option before it is invalid."""
    # A child of *ctx*, because a command caches the names of its help option on first use.
    below = click.Context(command, parent=ctx)
    options = [parameter for parameter in command.get_params(below) if isinstance(parameter, click.Option)]
    # The arguments of *command* are left out, because they would consume the first word.
    parser = click.Command(command.name, params=[*options], add_help_option=False).make_parser(below)
    parser.allow_interspersed_args = False
    try:
        return parser.parse_args([*args])[1]
    except click.UsageError:
        return None


def _first_word_first(group: Section, ctx: click.Context, args: list[str]) -> list[str]:
    """Return *args* with the first word in front, so that its command refuses the unknown option before it."""
    rest = left_over(group, ctx, args)
    return [rest[0], *args[: -len(rest)], *rest[1:]] if rest else args
