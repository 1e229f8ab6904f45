"""The ``[plugins.redis]`` table: the server, and how long it may take."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from nexus.api import PluginConfig

SCHEMES: Final = ("redis", "rediss", "unix")
ADDRESS: Final = re.compile(r"(\[[^\]]+\]|[^:/]+)(:\d{1,5})?(/\d*)?")
"""Host, port and number of a database."""


class RedisConfig(PluginConfig):
    """The ``[plugins.redis]`` table, which is used if ``[store] kind`` is ``redis``."""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://[user@]host[:port][/database]``, ``rediss://`` for TLS, or ``unix:///path``."""
    password_env: str | None = None
    """The environment variable that has the password."""
    ca_file: str | None = None
    """A file with the certificates that a server with TLS is checked against; unset: those of the system."""
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")] = "nexus"
    """The name of this installation: replicas with the same prefix share their state."""
    timeout_seconds: Annotated[float, Meta(ge=0.01, le=10)] = 0.25
    """How long a call may take."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise ValueError("`url` is no address of a server; give redis://host:6379, rediss://host or unix:///path")
        if parts.scheme != "unix" and not ADDRESS.fullmatch(parts.netloc.rpartition("@")[2] + parts.path):
            raise ValueError(
                "`url` may have a port and the number of a database after its host, such as redis://host:6379/0"
            )
        if parts.password:
            raise ValueError("`url` has a password, which logs would show; name its variable with `password_env`")
        if self.ca_file is not None and parts.scheme != "rediss":
            raise ValueError("`ca_file` needs a `url` that begins with rediss://")
