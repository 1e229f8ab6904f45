"""Which running proxy a command talks to."""

from pathlib import Path

import pytest

from nexus.app.process.state_file import Running
from nexus.cli.exit_codes import SeveralProxies
from nexus.cli.running_proxy.target import choose
from nexus.config.partial import PartialConfig


def running(port, config=None):
    return Running(url=f"http://127.0.0.1:{port}", pid=port, config=config, started_at="", version="1.0")


A, B, BARE = running(8001, "/etc/a.toml"), running(8002, "/etc/b.toml"), running(8003)


def seen(source=None, port=8000, *, is_address_set=False):
    return PartialConfig(source=source and Path(source), url=f"http://127.0.0.1:{port}", is_address_set=is_address_set)


@pytest.mark.parametrize(
    ("there", "load_partial", "meant"),
    [
        ((), seen(), None),
        ((A,), seen(), A),
        ((A, B), seen("/etc/b.toml"), B),
        ((A, B), seen("/etc/../etc/b.toml"), B),
        ((A, B), seen("/etc/c.toml"), None),
        ((A,), seen("/etc/c.toml"), None),
        ((BARE,), seen("/etc/c.toml"), None),
        ((A, B), seen(port=8002, is_address_set=True), B),
        ((A,), seen("/etc/a.toml", port=8009, is_address_set=True), None),
    ],
)
def test_the_matching_proxy_is_chosen(there, load_partial, meant):
    assert choose(there, load_partial) is meant


@pytest.mark.parametrize(
    ("there", "load_partial"), [((A, B), seen()), ((A, running(8004, "/etc/a.toml")), seen("/etc/a.toml"))]
)
def test_several_matching_proxies_are_listed(there, load_partial):
    with pytest.raises(SeveralProxies) as refused:
        choose(there, load_partial)

    assert all(each.url in str(refused.value) for each in there)
