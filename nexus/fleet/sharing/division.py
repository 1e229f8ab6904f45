"""Keeps the limits that a broker divides the same as those of the rows of a fleet."""

from collections.abc import Iterable

from nexus.domain.backend import Backend
from nexus.fleet.sharing.slot_broker import Key, SlotBroker


def limits_of(row: Backend) -> dict[Key, int]:
    """Return the limits that processes have to divide: that of the backend, and those of its limited models."""
    models = ((name, facts.max_in_flight) for name, facts in row.models.items())
    return {
        (row.name, ""): row.max_in_flight,
        **{(row.name, name): limit for name, limit in models if limit is not None},
    }


def limited_models(row: Backend) -> list[str]:
    """Return the models of *row* with a limit of their own."""
    return [name for name, facts in row.models.items() if facts.max_in_flight is not None]


def divide(broker: SlotBroker, changed: Iterable[Backend], gone: Iterable[Backend], *, is_shared: bool) -> None:
    """Let *broker* divide the limits of rows as they are now.

    :param is_shared: whether other replicas use the backends, too.
    """
    for row in gone:
        _forget(broker, row.name, {})
    for row in changed:
        limits = limits_of(row)
        _forget(broker, row.name, limits)
        for key, limit in limits.items():
            broker.limit(key, limit, is_shared=is_shared)


def _forget(broker: SlotBroker, name: str, kept: dict[Key, int]) -> None:
    for key in [key for key in broker.keys if key[0] == name and key not in kept]:
        broker.forget(key)
