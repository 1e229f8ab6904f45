"""Each backend has one pool, as long as it is the same backend."""

import msgspec
import pytest

from nexus.config.schema import TimeoutsConfig
from nexus.dialing.upstream_settings import UpstreamSettings
from nexus.proxy.upstream import backends as upstreams_module
from nexus.proxy.upstream.backends import Upstreams
from nexus.testing.builders import make_backend

GPU = make_backend("gpu-1")


@pytest.fixture
async def upstreams():
    upstreams = Upstreams({"gpu-1": UpstreamSettings(key="secret")}, TimeoutsConfig())
    yield upstreams
    upstreams.close()


async def test_an_upstream_is_made_once(upstreams):
    first = upstreams.of(GPU)

    assert upstreams.of(GPU) is first
    assert (first.head_template.configured_lines, first.head_template.host_line) == (
        b"authorization: Bearer secret\r\n",
        b"Host: gpu-1:8000\r\n",
    )


async def test_a_change_of_health_keeps_the_upstream(upstreams):
    first = upstreams.of(GPU)

    assert upstreams.of(msgspec.structs.replace(GPU, is_cooling=True, last_error="x")) is first


@pytest.mark.parametrize("change", [{"url": "http://other:1"}, {"kind": make_backend(kind="vllm").kind}])
async def test_a_change_of_url_kind_or_name_makes_a_new_upstream(upstreams, change):
    first = upstreams.of(GPU)

    second = upstreams.of(msgspec.structs.replace(GPU, **change))

    assert second is not first
    assert first.pool._is_closed
    assert upstreams.of(msgspec.structs.replace(GPU, **change)) is second


async def test_a_discovered_backend_has_no_key(upstreams):
    assert upstreams.of(make_backend("found")).head_template.configured_lines == b""


async def test_the_pool_of_a_removed_backend_is_closed(upstreams):
    gone, kept = upstreams.of(make_backend("gone")), upstreams.of(GPU)

    upstreams.keep_only(frozenset({GPU.id}))

    assert (gone.pool._is_closed, kept.pool._is_closed) == (True, False)
    assert upstreams.counts.keys() == {"gone", "gpu-1"}


async def test_new_keys_apply_to_further_requests(upstreams):
    before = upstreams.of(GPU)

    upstreams.reconfigure({"gpu-1": UpstreamSettings(key="newer")}, TimeoutsConfig())

    assert before.head_template.configured_lines == b"authorization: Bearer secret\r\n"
    assert upstreams.of(GPU).head_template.configured_lines == b"authorization: Bearer newer\r\n"


async def test_counts_of_connections_outlive_a_reconfiguration(upstreams):
    before = upstreams.of(GPU)
    before.pool.counts.opened = 3

    upstreams.reconfigure({}, TimeoutsConfig())
    after = upstreams.of(GPU)

    assert after is not before
    assert after.pool.counts.opened == 3


async def test_counts_of_removed_backends_are_limited(upstreams, monkeypatch):
    monkeypatch.setattr(upstreams_module, "MAX_COUNTED", 3)
    upstreams.of(GPU)
    upstreams.of(make_backend("busy")).pool.counts.open = 1
    upstreams.of(make_backend("gone"))
    upstreams.keep_only(frozenset({GPU.id}))

    upstreams.of(make_backend("new"))

    assert upstreams.counts.keys() == {"gpu-1", "busy", "new"}
