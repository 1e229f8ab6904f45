"""Keeps the limits that the broker divides equal to those in the rows of the fleet."""

from collections.abc import Iterable, Mapping

from nexus.domain.backend import Backend
from nexus.domain.capacity import held_from_reported
from nexus.domain.shared_load import HELD
from nexus.fleet.sharing.slot_broker import Key, SlotBroker


def limits_of(row: Backend) -> dict[Key, int]:
    """Return the limits that processes have to divide: that of the backend, those of its limited models, and the slots
    that it reports for each other model.
    """
    limits = {(row.name, ""): row.max_in_flight}
    held_from = held_from_reported(row)
    for name, facts in row.models.items():
        if facts.max_in_flight is not None:
            limits[row.name, name] = facts.max_in_flight
        elif held_from is not None:
            limits[row.name, HELD + name] = held_from
    return limits


def parts_of(row: Backend) -> list[str]:
    """Return the names of the limits of *row* besides that of the whole backend."""
    return [name for _, name in limits_of(row) if name]


def difference(before: Mapping[str, Backend], now: Mapping[str, Backend]) -> tuple[list[Backend], list[Backend]]:
    """Return the rows of *now* that are not those of *before*, and those of *before* that are gone, both by id."""
    changed = [row for row in now.values() if before.get(row.id) is not row]
    return changed, [row for id_, row in before.items() if id_ not in now]


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
