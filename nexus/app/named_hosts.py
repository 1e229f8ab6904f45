"""What ``check`` finds out of the hosts of ``[[discovery.hosts]]``: names that lead nowhere now."""

import asyncio
from typing import Final

from nexus.app.blueprint import Blueprint
from nexus.config.scan_places import names_in
from nexus.dialing.names import addresses_of

MOST_LOOKED_UP: Final = 32
LOOK_UP_S: Final = 3.0


async def named_host_warnings(blueprint: Blueprint) -> tuple[str, ...]:
    """Look each name up once, and return what the operator should know."""
    names = names_in(blueprint.config.discovery.hosts)[:MOST_LOOKED_UP]
    problems = await asyncio.gather(*map(_problem_of, names))
    return tuple(problem for problem in problems if problem is not None)


async def _problem_of(name: str) -> str | None:
    try:
        async with asyncio.timeout(LOOK_UP_S):
            await addresses_of(name)
    except OSError as exc:  # a TimeoutError is one
        reason = exc.strerror or "no answer in time"
        return f"[[discovery.hosts]]: the host '{name}' is not found: {reason}; it is looked up again and again"
    return None
