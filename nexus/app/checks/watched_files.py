"""Warns of watched files that cannot be used: a start would log the same and go on."""

import asyncio
import contextlib

from nexus.app.composition.blueprint import Blueprint
from nexus.app.composition.loading import load_backend_here
from nexus.fleet.discovery.files.declared import resolve_clashes
from nexus.fleet.discovery.files.discoverer import FIRST_LOOK_S, FileDiscoverer
from nexus.fleet.discovery.files.watched_file import FileState
from nexus.fleet.discovery.sightings import Sighting


async def watched_file_warnings(blueprint: Blueprint) -> tuple[str, ...]:
    """Read each watched file once, and return a warning for each problem."""
    plan = blueprint.fleet
    files = FileDiscoverer(plan.discovery.file, load_backend_here, plan.kinds)
    # The readers are called directly, because the discoverer would log what is returned here.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FIRST_LOOK_S):
            for reader in files.readers:
                files.states[reader.source.path] = await asyncio.to_thread(reader.look, FileState())
    failures = [
        f"{state.failure or f'{path}: cannot be read in time'}; a start goes on without its backends"
        for path, state in files.states.items()
        if state.failure or state.seen is None
    ]
    sightings = [Sighting(files.name, found) for found in files.found()]
    _, clashes = resolve_clashes(sightings, plan.members.values(), plan.kinds)
    ignored = [
        f"{clash.file}: '{clash.name}' is ignored: the backend '{clash.by}' has the name or the address already"
        for clash in sorted(clashes, key=lambda each: (each.file, each.name))
    ]
    return (*failures, *ignored)
