"""Loads one backend with the secrets of this process, and hides these in the logs."""

import os
from collections.abc import Mapping
from typing import Any

from nexus.config.one_backend import LoadedBackend, load_backend
from nexus.observability.logging import logs


def load_backend_here(table: Mapping[str, Any]) -> LoadedBackend:
    """Return the backend in *table*. :raises Fault: a key is wrong; its path begins in the table."""
    loaded = load_backend(table, environ=os.environ)
    for secret in loaded.secrets:
        logs.hide(secret.reveal())
    return loaded
