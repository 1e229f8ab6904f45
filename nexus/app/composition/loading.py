"""Backends that are not configured, checked with the secrets of this process, which the log is told to hide."""

import os
from collections.abc import Mapping
from typing import Any

from nexus.config.one_backend import LoadedBackend, load_backend
from nexus.observability.logging import logs


def load_backend_here(table: Mapping[str, Any]) -> LoadedBackend:
    """Return what *table* describes. :raises Fault: a key is wrong; its path begins in the table."""
    loaded = load_backend(table, environ=os.environ)
    for secret in loaded.secrets:
        logs.hide(secret.reveal())
    return loaded
