"""Opens the store and the port; ``check`` tries the same."""

from collections.abc import Iterator
from contextlib import contextmanager

from nexus import tasks
from nexus.app.composition.blueprint import Blueprint
from nexus.app.composition.guards import guarded_discoverers
from nexus.app.process.binding import Listening, listen
from nexus.containment import described
from nexus.errors import NexusError, StartError
from nexus.store.watched import WatchedStore


async def open_store(blueprint: Blueprint) -> WatchedStore:
    """Return the store of *blueprint*, watched and opened.

    :raises StoreError: it cannot be opened.
    :raises StartError: it comes from a plugin, and raised another exception.
    """
    with _failures_of_store(blueprint):
        store = WatchedStore(blueprint.open_store(blueprint.config.store))
        await store.open()
        return store


async def open_port(blueprint: Blueprint, *, may_move: bool, only_bind: bool = False) -> Listening:
    """Listen on the address in *blueprint*; see :func:`~nexus.app.process.binding.listen`."""
    server = blueprint.config.server
    return await listen(server.host, server.port, may_move=may_move, may_share=server.reuse_port, only_bind=only_bind)


def may_move_port(blueprint: Blueprint) -> bool:
    """Whether any port may be used, because no file, option or variable sets one."""
    return not blueprint.loaded.is_set("server.port")


async def try_to_open(blueprint: Blueprint) -> None:
    """Open the store, the discoverers and the port as a start would, and close them again.

    The port comes last, so that if it is taken, everything else is known to work.

    :raises NexusError: something cannot be opened.
    """
    with _failures_of_store(blueprint):
        await blueprint.open_store(blueprint.config.store).check()
    guarded_discoverers(blueprint.contributions)
    (await open_port(blueprint, may_move=may_move_port(blueprint), only_bind=True)).close()


@contextmanager
def _failures_of_store(blueprint: Blueprint) -> Iterator[None]:
    try:
        yield
    except NexusError:
        raise
    except BaseException as exc:
        if tasks.is_from_outside(exc):
            raise
        kind = blueprint.config.store.kind
        raise StartError(f"the store '{kind}' of [store] cannot be opened: {described(exc)}") from exc
