"""Options in any place: those given before the name of a command are moved behind it, where click looks for them."""

from collections.abc import Sequence

import click

from nexus.errors import did_you_mean


class Section(click.Group):
    """A group whose commands honour their options wherever these are given; of two values, the last one counts."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, placed(self, ctx, args) or _with_first_word_in_front(self, ctx, args))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            ctx.fail(self.no_command(ctx, args[0]))
        return args[0], command, args[1:]

    def own_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command *name* if looking for it costs nothing: any word may turn out to be no command."""
        return self.get_command(ctx, name)

    def no_command(self, ctx: click.Context, name: str) -> str:
        """Return the error of a word that is no command."""
        return f"there is no command '{name}'{did_you_mean(name, self.list_commands(ctx))}"


def placed(group: Section, ctx: click.Context, args: Sequence[str]) -> list[str] | None:
    """Return *args* with the name of a command of *group* in front, None when none of them takes what precedes it.

    A word is taken for a command only when that command's own options account for all before it: in
    ``--host check health`` the command is ``health``.
    """
    for position, word in enumerate(args):
        command = None if word.startswith("-") else group.own_command(ctx, word)
        if command is None:
            continue
        before, rest = [*args[:position]], [*args[:position], *args[position + 1 :]]
        below = placed(command, ctx, rest) if isinstance(command, Section) else None
        if below is not None or left_over(command, ctx, before) == []:
            return [word, *(below or rest)]
    return None


def left_over(command: click.Command, ctx: click.Context, args: Sequence[str]) -> list[str] | None:
    """Return *args* from the first that is no option of *command*, None when one before that is wrong."""
    # Below *ctx*, because a command keeps the names of its help option from the first time that it is asked for them.
    below = click.Context(command, parent=ctx)
    options = [parameter for parameter in command.get_params(below) if isinstance(parameter, click.Option)]
    # Without the arguments of *command*, which would take the first word.
    parser = click.Command(command.name, params=[*options], add_help_option=False).make_parser(below)
    parser.allow_interspersed_args = False
    try:
        return parser.parse_args([*args])[1]
    except click.UsageError:
        return None


def _with_first_word_in_front(group: Section, ctx: click.Context, args: list[str]) -> list[str]:
    """Return *args* so that the command which does not take an option before it is the one to refuse that."""
    rest = left_over(group, ctx, args)
    return [rest[0], *args[: -len(rest)], *rest[1:]] if rest else args
