"""Names that a shell completes: those that the proxy which runs has now."""

import io
import threading
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from nexus.cli.arguments.options import chosen
from nexus.cli.running_proxy.target import Target
from nexus.errors import NexusError

PATIENCE_S: Final = 0.7
"""How long the shell waits for names; without an answer it offers none."""

Row = Mapping[str, Any]


class NameOf:
    """Completes a name of ``/admin/backends``; whatever goes wrong, nothing is offered and nothing is printed."""

    def __init__(
        self, backend: Callable[[Row], bool] = lambda _: True, *, pending: Callable[[Row], bool] = lambda _: False
    ) -> None:
        """:param backend: which backends are offered.
        :param pending: which of the servers that wait for approval.
        """
        self._backend = backend
        self._pending = pending

    def __call__(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        told: dict[str, Any] = {}
        # A name server that does not answer cannot be interrupted, but it can be left behind.
        asking = threading.Thread(target=_ask, args=(ctx.params, told), daemon=True)
        with redirect_stderr(io.StringIO()):
            asking.start()
            asking.join(PATIENCE_S)
        backends = [row["name"] for row in told.get("backends", ()) if self._backend(row)]
        pending = [row["name"] for row in told.get("pending", ()) if self._pending(row)]
        return [CompletionItem(name) for name in sorted({*backends, *pending}) if name.startswith(incomplete)]


def _ask(params: Mapping[str, Any], told: dict[str, Any]) -> None:
    given = dict(params)
    try:
        target = Target(chosen=chosen(given), url=given.get("url"), api_key=given.get("api_key"))
        proxy = target.proxy(is_admin=True)
        proxy.version()
        told |= proxy.tell("GET", "/admin/backends")
    except (NexusError, click.ClickException, OSError, LookupError, TypeError, ValueError):
        return
