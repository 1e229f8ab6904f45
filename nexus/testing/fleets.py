"""Writes the ``[[backends]]`` tables of servers."""

import json

from nexus.simulator import Simulator


def backend_table(name: str, url: str, **keys: str | int) -> str:
    """Return the ``[[backends]]`` table of one server."""
    rows = {"name": name, "url": url, **keys}
    return "\n[[backends]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())


def table_of(simulator: Simulator, **keys: str | int) -> str:
    """Return the ``[[backends]]`` table of *simulator*."""
    return backend_table(simulator.name, simulator.url, **keys)
