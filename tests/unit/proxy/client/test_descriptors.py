"""The last file descriptors are kept from new clients, and a shortage is logged at its beginning and its end."""

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nexus.proxy.client.descriptors import CALM_S, CHECK_S, Descriptors, Room
from tests.support.fakes import FakeClock

LIMIT = 800


@pytest.fixture
def loop():
    return FakeClock()


@pytest.fixture
def descriptors(loop):
    return Descriptors(loop, LIMIT)


@pytest.mark.parametrize(
    ("descriptor", "room"),
    [(3, Room.ENOUGH), (699, Room.ENOUGH), (700, Room.LITTLE), (749, Room.LITTLE), (750, Room.NONE), (799, Room.NONE)],
)
def test_the_number_of_a_connection_decides_its_room(descriptors, descriptor, room):
    assert descriptors.room_for(descriptor) is room


@given(st.integers(64, 2**20), st.integers(0, 2**20))
def test_room_never_grows_with_the_number(limit, descriptor):
    order = [Room.ENOUGH, Room.LITTLE, Room.NONE]
    descriptors = Descriptors(FakeClock(), limit)

    rooms = [order.index(descriptors.room_for(number)) for number in (3, descriptor, descriptor + 1)]

    assert rooms == sorted(rooms)
    assert rooms[0] == 0


def test_a_shortage_is_logged_once_and_its_end_once(descriptors, loop):
    with capture_logs() as lines:
        for _ in range(1000):
            descriptors.room_for(700)
            loop.advance(0.01)
        loop.advance(CALM_S + 2 * CHECK_S)

    assert [(line["event"], line.get("refused")) for line in lines] == [
        ("file_descriptors_short", None),
        ("file_descriptors_enough", 1000),
    ]
    assert loop.timers == []


def test_a_shortage_lasts_while_the_descriptors_are_in_use(loop):
    open_now = len(list(Path("/dev/fd").iterdir()))
    descriptors = Descriptors(loop, open_now)

    with capture_logs() as lines:
        descriptors.room_for(open_now)
        loop.advance(10 * CALM_S)

    assert [line["event"] for line in lines] == ["file_descriptors_short"]


def test_the_kernel_gives_out_the_lowest_number():
    first = os.open(os.devnull, os.O_RDONLY)
    second = os.open(os.devnull, os.O_RDONLY)
    os.close(first)

    again = os.open(os.devnull, os.O_RDONLY)

    assert again == first < second < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.close(again)
    os.close(second)
