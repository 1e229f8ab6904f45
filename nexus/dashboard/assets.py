"""Loads the dashboard's files once, so that no request reads from the file system."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePath
from typing import Final

import msgspec

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(msgspec.Struct, frozen=True):
    """One file below ``/assets/``."""

    content_type: str
    body: bytes


def load_assets() -> Mapping[str, Asset]:
    """Return every file of the dashboard by its name; ``index.html`` is the template of the page."""
    return {
        path.name: Asset(_TYPES[PurePath(path.name).suffix], path.read_bytes())
        for path in files("nexus.dashboard").joinpath("static").iterdir()
    }
