"""The hooks of the plugin, and its table."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import nexus_redis
from nexus.api import StoreConfig
from nexus.testing.imports import assert_only_uses_api
from nexus_redis import plugin
from nexus_redis.config import RedisConfig


def test_it_has_a_table():
    assert plugin.nexus_config() is RedisConfig


def test_it_gives_a_store_of_its_name():
    ((name, make),) = plugin.nexus_stores(RedisConfig())

    assert (name, make(StoreConfig()).survives_restart) == ("redis", True)


def test_the_library_is_imported_only_when_the_store_is_used():
    program = """
import sys
from nexus_redis import plugin
from nexus_redis.config import RedisConfig
plugin.nexus_stores(RedisConfig())
print([name for name in sys.modules if name.startswith("redis")])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"url": "127.0.0.1:6379"}, "`url` is no address"),
        ({"url": "redis://"}, "`url` is no address"),
        ({"url": "unix://"}, "`url` is no address"),
        ({"url": "redis://host:6379/abc"}, "`url` may have a port and the number of a database"),
        ({"url": "redis://host:port/0"}, "`url` may have a port and the number of a database"),
        ({"url": "redis://u:secret@host"}, "name its variable with `password_env`"),
        ({"url": "redis+cluster://host:6379"}, "`url` names a cluster"),
        ({"url": "unix+sentinel:///path/mymaster"}, "`url` needs the sentinels and the name of the primary"),
        ({"url": "redis+sentinel://host:26379"}, "`url` needs the sentinels and the name of the primary"),
        ({"url": "redis+sentinel://host:26379,/mymaster"}, "`url` needs the sentinels and the name of the primary"),
        ({"url": "redis+sentinel://host/mymaster/x"}, "`url` needs the sentinels and the name of the primary"),
        ({"url": "redis://one:6379,two:6379"}, "`url` may have a port and the number of a database"),
        ({"sentinel_password_env": "S"}, "`sentinel_password_env` needs"),
        ({"ca_file": "/ca.pem"}, "`ca_file` needs"),
        ({"url": "redis+sentinel://host/mymaster", "ca_file": "/ca.pem"}, "`ca_file` needs"),
        ({"prefix": "a:b"}, "prefix"),
        ({"prefix": "a{b}"}, "prefix"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_a_wrong_table_is_refused(keys, why):
    with pytest.raises(msgspec.ValidationError, match=why):
        msgspec.convert(keys, RedisConfig)


def test_a_password_is_not_quoted():
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert({"url": "redis://u:secret@host"}, RedisConfig)

    assert "secret" not in str(refused.value)


def test_it_imports_nothing_of_nexus_but_the_api():
    assert_only_uses_api(Path(__file__).parents[1])


def test_it_says_its_version():
    assert nexus_redis.__version__ == "0.1.0"
