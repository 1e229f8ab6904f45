"""Completes names of backends in a shell by asking the running proxy."""

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

TIMEOUT_S: Final = 0.7
"""How long the shell waits for names; without an answer, it offers none."""

Row = Mapping[str, Any]


class NameOf:
    """Completes a name of ``/admin/backends``; after any error, it offers and prints nothing."""

    def __init__(
        self, backend: Callable[[Row], bool] = lambda _: True, *, pending: Callable[[Row], bool] = lambda _: False
    ) -> None:
        """:param backend: whether to offer a backend.
        :param pending: whether to offer a server that waits for approval.
        """
        self._backend = backend
        self._pending = pending

    def __call__(self, ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        page: dict[str, Any] = {}
        # In a thread, because a name lookup without an answer cannot be interrupted, only abandoned.
        thread = threading.Thread(target=_fetch, args=(ctx.params, page), daemon=True)
        with redirect_stderr(io.StringIO()):
            thread.start()
            thread.join(TIMEOUT_S)
        backends = [row["name"] for row in page.get("backends", ()) if self._backend(row)]
        pending = [row["name"] for row in page.get("pending", ()) if self._pending(row)]
        return [CompletionItem(name) for name in sorted({*backends, *pending}) if name.startswith(incomplete)]


def _fetch(params: Mapping[str, Any], page: dict[str, Any]) -> None:
    given = dict(params)
    try:
        target = Target(chosen=chosen(given), url=given.get("url"), api_key=given.get("api_key"))
        proxy = target.proxy(is_admin=True)
        proxy.version()
        page |= proxy.call("GET", "/admin/backends")
    except (NexusError, click.ClickException, OSError, LookupError, TypeError, ValueError):
        return
