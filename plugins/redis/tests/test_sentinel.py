"""Sentinels name the primary, also the next one after it has failed."""

import asyncio
import subprocess
import time

import msgspec
import pytest
import redis
from redis.asyncio.connection import SSLConnection

from nexus.api import StoreError
from nexus.testing.ports import free_port
from nexus_redis.config import RedisConfig
from nexus_redis.server import client_of, place
from nexus_redis.store import RedisStore

WITHIN_S = 30.0
SENTINEL = """
port {port}
dir {folder}
sentinel monitor mymaster 127.0.0.1 {primary} 1
sentinel down-after-milliseconds mymaster 300
sentinel failover-timeout mymaster 1000
"""


class Watched:
    """A primary with a replica, watched by one sentinel."""

    def __init__(self, program, folder):
        self._program, self._folder = program, folder
        self.ports = {name: free_port() for name in ("primary", "replica", "sentinel")}
        self.running = {}

    def start(self, *of_sentinel):
        options = ["--save", "", "--repl-diskless-sync-delay", "0", "--bind", "127.0.0.1"]
        self._run("primary", "--port", str(self.ports["primary"]), *options)
        primary = ["127.0.0.1", str(self.ports["primary"])]
        self._run("replica", "--port", str(self.ports["replica"]), *options, "--replicaof", *primary)
        file = self._folder / "sentinel.conf"
        words = {"port": self.ports["sentinel"], "folder": self._folder, "primary": self.ports["primary"]}
        file.write_text(SENTINEL.format(**words) + "\n".join(of_sentinel))
        self._run("sentinel", str(file), "--sentinel")
        self.until("replica", lambda client: client.info()["master_link_status"] == "up")
        if not of_sentinel:
            self.until("sentinel", lambda client: client.sentinel_masters()["mymaster"]["num-slaves"] == 1)

    def _run(self, name, *words):
        folder = self._folder / name
        folder.mkdir()
        self.running[name] = subprocess.Popen(
            [self._program, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def until(self, name, condition):
        deadline = time.monotonic() + WITHIN_S
        while True:
            try:
                with redis.Redis(port=self.ports[name], protocol=2) as client:
                    if condition(client):
                        return
            except (redis.exceptions.ConnectionError, KeyError):
                pass
            assert time.monotonic() < deadline, name
            time.sleep(0.02)

    def kill(self, name):
        self.running[name].kill()
        self.running.pop(name).wait()

    def end(self):
        for name in [*self.running]:
            self.kill(name)


@pytest.fixture
def watched(program, tmp_path):
    watched = Watched(program, tmp_path)
    yield watched
    watched.end()


def config(watched, **keys):
    # The first of the sentinels is not there.
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{watched.ports['sentinel']}/mymaster"
    return RedisConfig(url=url, **keys)


async def test_the_store_follows_the_primary_that_the_sentinels_name(watched):
    watched.start()
    store = RedisStore(config(watched))
    await store.open()
    before = await store.add("n", 1)
    watched.until("replica", lambda client: client.hlen("{nexus}:entries") == 1)

    watched.kill("primary")
    with pytest.raises(StoreError):
        await store.add("n", 1)
    watched.until("replica", lambda client: client.info()["role"] == "master")
    deadline = time.monotonic() + WITHIN_S
    after = None
    while after is None and time.monotonic() < deadline:
        try:
            after = await store.add("n", 1)
        except StoreError:
            await asyncio.sleep(0.05)

    assert (before, after) == (1, 2)
    await store.close()


async def test_what_is_wrong_with_sentinels_is_said(watched, monkeypatch):
    watched.start("requirepass secret")
    watched.until("sentinel", lambda client: client.auth("secret") and client.sentinel_masters())
    monkeypatch.setenv("SENTINEL_PASSWORD", "secret")

    with pytest.raises(StoreError, match="sentinel_password_env"):
        await RedisStore(config(watched)).open()
    unknown = msgspec.structs.replace(config(watched, sentinel_password_env="SENTINEL_PASSWORD"))
    unknown.url = unknown.url.replace("/mymaster", "/other")
    with pytest.raises(StoreError, match=r"other of the sentinels 127\.0\.0\.1.*none knows a primary of that name"):
        await RedisStore(unknown).open()
    store = RedisStore(config(watched, sentinel_password_env="SENTINEL_PASSWORD"))
    await store.open()
    assert await store.add("n", 1) == 1
    await store.close()


async def test_sentinels_and_primary_are_reached_as_the_url_says(monkeypatch):
    monkeypatch.setenv("P", "secret")
    url = "rediss+sentinel://nexus%40a@one.internal,[::1]:26380/my.master/3"
    of = RedisConfig(url=url, password_env="P")
    client = client_of(of)

    options = client.connection_pool.connection_kwargs
    asked = [each.connection_pool.connection_kwargs for each in client.connection_pool.sentinel_manager.sentinels]
    assert place(of) == "my.master of the sentinels one.internal,[::1]:26380"
    assert [(each["host"], each["port"]) for each in asked] == [("one.internal", 26379), ("::1", 26380)]
    assert (options["username"], options["password"], options["db"]) == ("nexus@a", "secret", 3)
    assert issubclass(client.connection_pool.connection_class, SSLConnection)
    assert {each["password"] for each in asked} == {None}
