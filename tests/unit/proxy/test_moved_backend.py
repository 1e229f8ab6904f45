"""A backend may be given another address between its reservation and the request: its key is for the new one."""

from types import SimpleNamespace

import msgspec
import pytest

from nexus.domain.fleet import FleetSnapshot
from nexus.proxy.exchange.failover import Failover
from nexus.testing.builders import make_backend

GPU = make_backend("gpu-1", models=["llama3"])


@pytest.fixture
def given_back():
    return []


@pytest.fixture
def begin(make_reserved, given_back):
    """Return the backend that is asked of what was reserved at GPU, when the fleet is what a test says."""

    def begin(*rows):
        fleet = SimpleNamespace(snapshot=FleetSnapshot(backends=rows, by_id={row.id: row for row in rows}))
        inquiry = SimpleNamespace(plane=SimpleNamespace(fleet=fleet), _give_back=given_back.append)
        reserved = Failover._as_it_is_now(inquiry, make_reserved(GPU))
        return reserved and reserved.backend

    return begin


def test_a_backend_is_asked_where_it_is_now(begin):
    moved = msgspec.structs.replace(GPU, url="http://elsewhere:8000")

    assert begin(moved) is moved


def test_what_else_changes_is_no_matter(begin):
    assert begin(msgspec.structs.replace(GPU, is_cooling=True)) is GPU


def test_nothing_is_sent_to_a_backend_that_has_left(begin, given_back):
    assert begin() is None
    assert [reserved.backend for reserved in given_back] == [GPU]


def test_nothing_follows_a_backend_into_another_zone(begin, given_back):
    other = "open" if GPU.zone == "restricted" else "restricted"

    assert begin(msgspec.structs.replace(GPU, url="http://elsewhere:8000", zone=other)) is None
    assert [reserved.backend for reserved in given_back] == [GPU]
