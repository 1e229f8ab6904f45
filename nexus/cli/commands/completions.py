"""``nexus-proxy completions``: prints a completion script for a shell."""

import click
from click.shell_completion import get_completion_class

PROGRAM = "nexus-proxy"


@click.command("completions")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script for SHELL.

    For bash, add to ~/.bashrc: eval "$(nexus-proxy completions bash)"

    For zsh, add to ~/.zshrc, below compinit: eval "$(nexus-proxy completions zsh)"

    For fish, add to ~/.config/fish/config.fish: nexus-proxy completions fish | source
    """
    from nexus.cli.main import main

    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"no completions for {shell}")
    click.echo(script(main, {}, PROGRAM, "_NEXUS_PROXY_COMPLETE").source())
