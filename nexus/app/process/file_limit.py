"""How many file descriptors the process may have, and whether these carry what is configured."""

import resource
from contextlib import suppress
from math import ceil
from typing import Final

from nexus.config.schema import Config
from nexus.proxy.client.descriptors import KEPT_SHARE

PER_REQUEST: Final = 2
"""The client's connection, and the backend's."""
BESIDES: Final = 64
"""For the store, the log, probes, the event loop and what listens."""
OPEN_MAX: Final = 10_240
"""What macOS grants where it says that there is no limit."""


def raise_file_limit() -> None:
    """Ask for all the file descriptors that the process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, OPEN_MAX):
        if not _is_less(soft, wanted):
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def file_limit() -> int | None:
    """Return how many descriptors the process may have, None when there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def too_few_files(config: Config, limit: int | None) -> tuple[str, ...]:
    """Return what to warn of: that *limit* does not carry ``max_concurrent_requests``, if it does not."""
    requests = config.server.max_concurrent_requests
    # The last share is kept from new clients.
    needed = ceil((PER_REQUEST * requests + BESIDES) * KEPT_SHARE / (KEPT_SHARE - 1))
    if limit is None or limit >= needed:
        return ()
    warning = (
        f"{limit} file descriptors do not carry server.max_concurrent_requests = {requests}, which takes {needed}:"
        f" raise the limit (systemd: LimitNOFILE={needed}; shell: ulimit -n {needed};"
        f" Docker: --ulimit nofile={needed}) or lower the key"
    )
    return (warning,)


def _is_less(limit: int, other: int) -> bool:
    if limit == resource.RLIM_INFINITY:
        return False
    return other == resource.RLIM_INFINITY or limit < other
