"""Raises the limit of file descriptors, and warns if it is too low for the configuration."""

import resource
from contextlib import suppress
from math import ceil
from typing import Final

from nexus.config.schema import Config
from nexus.proxy.client.descriptors import KEPT_SHARE

PER_REQUEST: Final = 2
"""The client connection and the upstream connection."""
BESIDES: Final = 64
"""For the store, the log, probes, the event loop and the listening sockets."""
OPEN_MAX: Final = 10_240
"""The actual limit of macOS where it reports none."""


def raise_file_limit() -> None:
    """Raise the soft limit of file descriptors as far as possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (hard, OPEN_MAX):
        if not _is_less(soft, wanted):
            return
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return


def file_limit() -> int | None:
    """Return how many descriptors the process may have; None: no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def too_few_files(config: Config, limit: int | None) -> tuple[str, ...]:
    """Return a warning if *limit* is too low for ``max_concurrent_requests``."""
    requests = config.server.max_concurrent_requests
    # One of KEPT_SHARE parts is reserved, and new clients are refused beyond the rest.
    needed = ceil((PER_REQUEST * requests + BESIDES) * KEPT_SHARE / (KEPT_SHARE - 1))
    if limit is None or limit >= needed:
        return ()
    warning = (
        f"{limit} file descriptors are too few for server.max_concurrent_requests = {requests}, which needs {needed}:"
        f" raise the limit (systemd: LimitNOFILE={needed}; shell: ulimit -n {needed};"
        f" Docker: --ulimit nofile={needed}) or lower the key"
    )
    return (warning,)


def _is_less(limit: int, other: int) -> bool:
    if limit == resource.RLIM_INFINITY:
        return False
    return other == resource.RLIM_INFINITY or limit < other
