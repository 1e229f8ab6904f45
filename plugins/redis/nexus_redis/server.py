"""The server: how it is reached, whether it is fit to keep the state, and the scripts that it runs."""

import os
import ssl
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from nexus.api import StoreError
from nexus_redis.config import RedisConfig

MIN_VERSION: Final = 6
SENTINEL_PORT: Final = 26379
NAMES: Final = ("apply", "leave", "renew", "scan")
SCRIPTS: Final = {name: files("nexus_redis").joinpath(f"{name}.lua").read_text("utf-8") for name in NAMES}


def client_of(config: RedisConfig) -> Redis:
    """Return a client that connects at its first call and never tries again by itself.

    :raises StoreError: the variable with the password is not set, or ``ca_file`` has no certificates.
    """
    options: dict[str, Any] = {
        "client_name": "nexus-proxy",
        "max_connections": 4,
        # Version 3 brings pushed messages, which nothing here uses, and more commands at each connection.
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        # The callers have deadlines of their own, which cover connecting too.
        "socket_timeout": None,
        "socket_connect_timeout": None,
    }
    if config.password_env is not None:
        options["password"] = _password("password_env", config.password_env)
    if config.ca_file is not None:
        options["ssl_ca_certs"] = _certificates(config.ca_file)
    client: Redis = (
        _client_of_primary(config, options) if config.has_sentinels else Redis.from_url(config.url, **options)
    )
    return client


def _client_of_primary(config: RedisConfig, options: dict[str, Any]) -> Redis:
    """Return a client that asks the sentinels for the address of the primary whenever it connects."""
    parts = urlsplit(config.url)
    user, _, addresses = parts.netloc.rpartition("@")
    name, _, database = parts.path.removeprefix("/").partition("/")
    options |= {"username": unquote(user) or None, "db": int(database or 0), "ssl": parts.scheme.startswith("rediss")}
    # A sentinel that does not answer must leave time to ask the next one.
    asking: dict[str, Any] = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), config.timeout_seconds)
    of_both = ("client_name", "protocol", "retry", "ssl", "ssl_ca_certs")
    asking |= {key: value for key, value in options.items() if key in of_both}
    if config.sentinel_password_env is not None:
        asking["password"] = _password("sentinel_password_env", config.sentinel_password_env)
    places = [_host_and_port(each) for each in addresses.split(",")]
    sentinels = Sentinel(places, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    client: Redis = sentinels.master_for(name, **options)
    return client


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = address, str(SENTINEL_PORT)
    return host.strip("[]"), int(port)


async def disconnect(client: Redis) -> None:
    """Close the connections to the server, and to its sentinels."""
    await client.aclose()
    sentinels = getattr(client.connection_pool, "sentinel_manager", None)
    if isinstance(sentinels, Sentinel):
        # Sentinel.aclose() came after the oldest release that this plugin takes.
        for sentinel in sentinels.sentinels:
            await sentinel.aclose()


def place(config: RedisConfig) -> str:
    """Return the server's address for messages."""
    parts = urlsplit(config.url)
    address = parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]
    return f"{parts.path.split('/')[1]} of the sentinels {address}" if config.has_sentinels else address


async def load_scripts(client: Redis) -> dict[str, str]:
    """Check the server, and return the scripts' digests once it knows the scripts.

    :raises StoreError: it is not fit for use; the text says why.
    """
    _check(await client.info())
    return {name: await client.script_load(text) for name, text in SCRIPTS.items()}


def _check(info: dict[str, Any]) -> None:
    version = str(info.get("redis_version", MIN_VERSION))
    if int(version.partition(".")[0]) < MIN_VERSION:
        raise StoreError(f"it is Redis {version}; at least {MIN_VERSION} is needed")
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys-"):
        raise StoreError(f"its maxmemory-policy is {policy}, which would drop spending; set it to noeviction")
    if info.get("role") == "slave":
        raise StoreError("it is a replica, which cannot be written to; give the address of the primary")


def _password(key: str, name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        reason = f"the environment variable {name}, named by [plugins.redis] {key}, is not set"
        raise StoreError(reason) from None


def _certificates(path: str) -> str:
    """Return *path* if it can be used; the library would say only "no such file", not which."""
    try:
        ssl.create_default_context(cafile=path)
    except OSError as exc:
        reason = "it has no certificates" if isinstance(exc, ssl.SSLError) else exc.strerror
        raise StoreError(f"[plugins.redis] ca_file {path} cannot be used: {reason}") from exc
    return path
