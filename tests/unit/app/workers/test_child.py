"""A worker is started as the parent was, wherever that runs."""

import socket
import sys

import pytest

import nexus
from nexus.app.workers.__main__ import serve
from nexus.app.workers.child import command_of
from nexus.errors import StartError


def test_a_worker_is_started_although_the_working_directory_was_deleted(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    command = command_of(2, 7)

    assert command == (sys.executable, "-P", "-m", "nexus.app.workers", "2", nexus.__version__, "7")


def test_a_worker_of_another_version_than_its_parent_says_so():
    ours, theirs = socket.socketpair()

    with ours, theirs, pytest.raises(StartError, match=r"was installed while 0\.0\.7 runs"):
        serve(1, "0.0.7", theirs)
