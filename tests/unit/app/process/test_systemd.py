"""The service manager is notified if it asked for it, and can never block the proxy."""

import socket

from structlog.testing import capture_logs

from nexus.app.process.systemd import READY, notify


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
