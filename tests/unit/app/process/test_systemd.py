"""The service manager is notified if it asked for it, and can never block the proxy."""

import asyncio
import socket
import time

import pytest
from structlog.testing import capture_logs

from nexus import tasks
from nexus.app.process import systemd
from nexus.app.process.systemd import READY, feed_watchdog, notify, reloaded, reloading, watchdog_s


def test_the_state_goes_to_the_socket_of_the_variable(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))

        notify(READY, {"NOTIFY_SOCKET": str(tmp_path / "notify")})

        assert manager.recv(100) == b"READY=1"


def test_a_socket_of_the_abstract_namespace_is_found():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("")  # Linux chooses an abstract name.

        notify(READY, {"NOTIFY_SOCKET": "@" + manager.getsockname()[1:].decode()})

        assert manager.recv(100) == b"READY=1"


def test_without_the_variable_nothing_is_sent():
    with capture_logs() as lines:
        notify(READY, {})

    assert lines == []


def test_a_missing_socket_is_a_warning(tmp_path):
    with capture_logs() as lines:
        notify(READY, {"NOTIFY_SOCKET": str(tmp_path / "gone")})

    (line,) = lines
    assert (line["event"], line["reason"]) == ("service_manager_not_told", "No such file or directory")


def test_a_reload_begins_with_the_time_by_which_systemd_recognises_it():
    # sd_notify(3): CLOCK_MONOTONIC in microseconds, not before the signal was sent.
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    first, second = reloading().splitlines()

    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("refused", "status"),
    [("", ""), ("line 3:\n\tunknown key\n", "the last reload was refused: line 3: unknown key")],
)
def test_the_status_of_the_service_tells_of_a_refused_reload(refused, status):
    assert reloaded(refused).split("\n") == ["READY=1", f"STATUS={status}"]


@pytest.mark.parametrize(
    ("environ", "limit_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "90000000"}, 90.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_watches_the_process_that_it_names(environ, limit_s):
    assert watchdog_s(environ, pid=7) == limit_s


async def test_the_watchdog_is_fed_twice_within_its_limit_while_the_proxy_is_alive(monkeypatch):
    told, paused_s, alive = [], [], iter([True, True, False, True])

    async def sleep(pause_s):
        paused_s.append(pause_s)
        if len(paused_s) == 4:
            raise asyncio.CancelledError

    monkeypatch.setattr(systemd, "notify", told.append)
    monkeypatch.setattr(systemd.faulthandler, "is_enabled", lambda: True)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    feeding = tasks.start(feed_watchdog(10.0, lambda: next(alive)), name="watchdog")
    await asyncio.gather(feeding, return_exceptions=True)

    assert told == ["WATCHDOG=1"] * 3
    assert paused_s == [5.0, 5.0, 0.5, 5.0]
