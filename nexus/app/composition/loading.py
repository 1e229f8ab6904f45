"""Loads configurations and single backends with the secrets of this process, and hides these in the logs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from nexus.config.loading import LoadedConfig, load
from nexus.config.one_backend import LoadedBackend, load_backend
from nexus.observability.logging import logs


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which configuration is loaded, as the command line says."""

    path: Path | None = None
    overrides: Mapping[str, object] = {}
    insecure: bool = False
    plugin_files: tuple[Path, ...] = ()

    def load(self, contents: Mapping[str, bytes] | None = None) -> LoadedConfig:
        """Load it and hide its secrets in the log.

        :param contents: of the files, if another process has read them; see :func:`nexus.config.loading.load`.
        :raises ConfigError: it is wrong.
        """
        loaded = load(
            self.path, environ=os.environ, overrides=self.overrides, insecure=self.insecure, contents=contents
        )
        for secret in loaded.secrets:
            logs.hide(secret.reveal())
        return loaded


def load_backend_here(table: Mapping[str, Any]) -> LoadedBackend:
    """Return the backend in *table*. :raises Fault: a key is wrong; its path begins in the table."""
    loaded = load_backend(table, environ=os.environ)
    for secret in loaded.secrets:
        logs.hide(secret.reveal())
    return loaded
