"""The state file exists as long as its process, and is ignored afterwards."""

import json
import os
from pathlib import Path

import pytest

from nexus.app.process.state_file import StateFile, running_proxies, runtime_folder
from nexus.config.loading import LoadedConfig
from nexus.config.schema import Config, ServerConfig


@pytest.fixture
def environ(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return {"XDG_RUNTIME_DIR": str(tmp_path)}


@pytest.fixture
def state(environ):
    made = StateFile(environ)
    yield made
    made.remove()


def config(host="127.0.0.1", source=None):
    return LoadedConfig(config=Config(server=ServerConfig(host=host)), source=source)


def files(tmp_path):
    return [*(tmp_path / "nexus-proxy").iterdir()]


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:81"), ("0.0.0.0", "http://127.0.0.1:81"), ("::", "http://[::1]:81")],
)
def test_what_was_written_is_read(state, environ, host, url):
    state.write(config(host, Path("nexus.toml")), 81)

    (running,) = running_proxies(environ)

    assert (running.url, running.pid, running.config) == (url, os.getpid(), str(Path("nexus.toml").absolute()))


def test_only_the_user_can_read_the_file(state, tmp_path):
    state.write(config(), 81)

    (file,) = files(tmp_path)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_writing_again_replaces_the_file(state, environ, tmp_path):
    state.write(config(), 81)
    state.write(config(), 81)

    assert (len(running_proxies(environ)), len(files(tmp_path))) == (1, 1)


def test_the_file_is_removed_at_the_end(state, environ, tmp_path):
    state.write(config(), 81)
    state.remove()

    assert (running_proxies(environ), files(tmp_path)) == ((), [])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"url": 1}', b"\xff"])
def test_an_invalid_file_is_ignored(state, environ, tmp_path, content):
    state.write(config(), 81)
    (file,) = files(tmp_path)

    file.write_bytes(content)

    assert running_proxies(environ) == ()


def test_a_file_that_no_process_holds_is_removed_and_others_stay(environ, tmp_path):
    folder = tmp_path / "nexus-proxy"
    folder.mkdir(mode=0o700)
    for name in ("proxy-1-a.json", "notes.json"):
        (folder / name).write_text(json.dumps({"url": "http://a", "pid": 1, "config": None}))

    assert running_proxies(environ) == ()
    assert [file.name for file in files(tmp_path)] == ["notes.json"]


def test_a_link_is_not_followed(state, environ, tmp_path):
    state.write(config(), 81)
    folder = tmp_path / "nexus-proxy"
    (tmp_path / "elsewhere").mkdir()
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")

    assert running_proxies(environ) == ()


@pytest.mark.parametrize(
    ("environ", "first"),
    [
        ({"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/run/user/1"}, "/run/a"),
        ({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/nexus-proxy"),
    ],
)
def test_the_folder_is_that_of_the_service_or_else_of_the_user(environ, first):
    assert str(runtime_folder(environ)) == first


def test_the_folder_of_a_service_may_be_a_link(tmp_path):
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "private")
    environ = {"RUNTIME_DIRECTORY": str(tmp_path / "link")}
    state = StateFile(environ)

    state.write(config(), 81)
    found = running_proxies(environ)
    state.remove()

    assert [each.pid for each in found] == [os.getpid()]


def test_without_a_writable_folder_no_file_is_written(monkeypatch, capture_events):
    def without_any():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", without_any)
    state = StateFile({})

    state.write(config(), 81)
    state.write(config(), 81)
    state.remove()

    assert running_proxies({}) == ()
    assert [event["event"] for event in capture_events] == ["state_file_not_written"]


def test_without_either_it_is_below_the_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert runtime_folder({}) == tmp_path / f"nexus-proxy-{os.geteuid()}"
