"""Warns before a backend is taken out that is the last healthy one with a model."""

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from nexus.cli.running_proxy.proxy import Proxy

MOST_NAMED: Final = 10

yes_option: Final = click.option("-y", "--yes", is_flag=True, help="Ask no question, even of the last with a model.")


def confirm(proxy: Proxy, name: str, action: str, *, is_sure: bool) -> None:
    """Warn on standard error when *action* leaves a model without a healthy backend, and ask a person at a terminal.

    A script is not asked: it gets the warning, and the models in ``last_with`` of the answer.

    :raises click.exceptions.Abort: the answer was no.
    """
    told: Any = proxy.tell("GET", "/admin/backends")
    # A proxy of an older release does not say so.
    models = told.get("last_with", {}).get(name, ())
    if not models:
        return
    click.echo(f"{name} is the last healthy backend with {_listed(models)}", err=True)
    if not is_sure and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm(f"{action} {name}?", abort=True, err=True)


def _listed(models: Sequence[str]) -> str:
    more = len(models) - MOST_NAMED
    return ", ".join(models[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
