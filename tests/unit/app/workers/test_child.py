"""A worker is started as the parent was, wherever that runs."""

import json
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

import nexus
from nexus.app.workers.__main__ import serve
from nexus.app.workers.child import command_of, interpreter_flags
from nexus.errors import StartError


def test_a_worker_is_started_although_the_working_directory_was_deleted(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    executable, *flags, module, name, index, version, channel = command_of(2, 7)

    assert "-P" in flags
    assert (executable, module, name, index, version, channel) == (
        sys.executable,
        "-m",
        "nexus.app.workers",
        "2",
        nexus.__version__,
        "7",
    )


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-O"],
        ["-OO", "-I"],
        ["-W", "error::ResourceWarning", "-W", "ignore::DeprecationWarning", "-b"],
        ["-X", "utf8", "-X", "importtime=2", "-s", "-E"],
        ["-X", "dev", "-P", "-B"],
    ],
)
def test_a_worker_runs_with_the_flags_of_its_parent(words):
    parent = started_with(words)

    flags, warnings, options = SimpleNamespace(**parent["flags"]), parent["warnings"], parent["options"]

    assert started_with(interpreter_flags(flags, warnings, options)) == parent


def started_with(words):
    """Return how an interpreter that was started with *words* runs."""
    show = """if True:
        import json, sys
        flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_" and name != "count"}
        flags = {name: value for name, value in flags.items() if isinstance(value, int)}
        print(json.dumps({"flags": flags, "warnings": sys.warnoptions, "options": sys._xoptions}))
    """
    # The environment, which a worker inherits, has flags of its own.
    return json.loads(subprocess.check_output([sys.executable, *words, "-c", show], env={}, text=True))


def test_a_worker_of_another_version_than_its_parent_says_so():
    ours, theirs = socket.socketpair()

    with ours, theirs, pytest.raises(StartError, match=r"was installed while 0\.0\.7 runs"):
        serve(1, "0.0.7", theirs)
