"""The ``[plugins.redis]`` table: the server, and how long it may take."""

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from msgspec import Meta

from nexus.api import PluginConfig

SCHEMES: Final = ("redis", "rediss", "unix")
SENTINEL: Final = "+sentinel"
"""Ends the scheme of an address that names the sentinels of a primary."""
_NODE: Final = r"(\[[^\]]+\]|[^:/,\[\]]+)(:\d{1,5})?"
ADDRESS: Final = re.compile(rf"{_NODE}(/\d*)?")
"""Host, port and number of a database."""
SENTINELS: Final = re.compile(rf"{_NODE}(,{_NODE})*/[A-Za-z0-9_.-]+(/\d*)?")
"""Hosts and ports of sentinels, the name of the primary that they watch, and the number of a database."""
FORMS: Final = "give redis://host:6379, rediss://host, unix:///path or redis+sentinel://host:26379,host:26379/name"


class RedisConfig(PluginConfig):
    """The ``[plugins.redis]`` table, which is used if ``[store] kind`` is ``redis``."""

    url: str = "redis://127.0.0.1:6379/0"
    """``redis://[user@]host[:port][/database]``, ``rediss://`` for TLS, ``unix:///path``, or, with Sentinel,
    ``redis+sentinel://[user@]host[:port],host[:port]/name[/database]``, ``rediss+sentinel://`` for TLS."""
    password_env: str | None = None
    """The environment variable that has the password."""
    sentinel_password_env: str | None = None
    """The environment variable that has the password of the sentinels; unset: they have none."""
    ca_file: str | None = None
    """A file with the certificates that a server with TLS is checked against; unset: those of the system."""
    prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")] = "nexus"
    """The name of this installation: replicas with the same prefix share their state."""
    timeout_seconds: Annotated[float, Meta(ge=0.01, le=10)] = 0.25
    """How long a call may take."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        kind, address = parts.scheme.removesuffix(SENTINEL), parts.netloc.rpartition("@")[2]
        if parts.scheme.endswith("+cluster"):
            raise ValueError(
                "`url` names a cluster: all keys are in one hash slot, so one server is enough; give its address,"
                " or let Sentinel name the primary: redis+sentinel://host:26379/name"
            )
        if kind not in SCHEMES or not (parts.path if kind == "unix" else address):
            raise ValueError(f"`url` is no address of a server; {FORMS}")
        if self.has_sentinels and (kind == "unix" or not SENTINELS.fullmatch(address + parts.path)):
            raise ValueError(
                "`url` needs the sentinels and the name of the primary that they watch, such as"
                " redis+sentinel://host-1:26379,host-2:26379/mymaster"
            )
        if kind != "unix" and not self.has_sentinels and not ADDRESS.fullmatch(address + parts.path):
            raise ValueError(
                "`url` may have a port and the number of a database after its host, such as redis://host:6379/0"
            )
        if parts.password:
            raise ValueError("`url` has a password, which logs would show; name its variable with `password_env`")
        if self.ca_file is not None and kind != "rediss":
            raise ValueError("`ca_file` needs a `url` that begins with rediss")
        if self.sentinel_password_env is not None and not self.has_sentinels:
            raise ValueError("`sentinel_password_env` needs a `url` that begins with redis+sentinel://")

    @property
    def has_sentinels(self) -> bool:
        """Whether `url` names sentinels, which know the primary, and not the server itself."""
        return urlsplit(self.url).scheme.endswith(SENTINEL)
