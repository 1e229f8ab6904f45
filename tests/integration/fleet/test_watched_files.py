"""Files of backends, from the disk into the fleet."""

import os

import pytest
from structlog.testing import capture_logs

from nexus.config.discovery_schema import DiscoveryConfig, FileSourceConfig
from nexus.dialing.upstream_settings import DEFAULT_SETTINGS
from nexus.fleet.discovery.files import watched_file
from nexus.fleet.discovery.files.discoverer import FileDiscoverer
from nexus.fleet.discovery.files.watched_file import LOOKS_PER_RETRY, FileReader, FileState
from nexus.fleet.kinds import KINDS
from nexus.testing.fleets import backend_table

ONE = backend_table("one", "http://127.0.0.1:9")
TWO = backend_table("two", "http://127.0.0.1:7")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fleet.toml"


@pytest.fixture
def load():
    """Check a table with variables that a test may change."""
    from nexus.config.one_backend import load_backend

    environ = {}

    def load(table):
        return load_backend(table, environ=environ)

    load.environ = environ
    return load


@pytest.fixture
def reader(path, load):
    return FileReader(FileSourceConfig(path=str(path), references=("env:*",)), load, KINDS)


@pytest.fixture
def watching(plan):
    def watching(*paths, **backends):
        files = tuple(FileSourceConfig(path=str(path)) for path in paths)
        return plan(discovery=DiscoveryConfig(enabled=False, file=files), **backends)

    return watching


def names(state):
    return [entry.member.config.name for entry in state.entries]


def test_a_half_written_file_does_not_count(reader, path):
    path.write_text(ONE + TWO)
    whole = reader.look(FileState())

    path.write_text(ONE)
    half = reader.look(whole)
    path.write_text(ONE + TWO + "\n")
    again = reader.look(reader.look(half))

    assert names(half) == names(again) == ["one", "two"]


def test_a_secret_that_comes_later_is_looked_for_again(reader, path, load):
    path.write_text(ONE + 'api_key = "env:LATE"\n')
    state = reader.look(FileState())
    assert "the variable LATE is not set" in state.failure

    load.environ["LATE"] = "sesame"
    for _ in range(LOOKS_PER_RETRY):
        state = reader.look(state)

    assert (names(state), state.failure) == (["one"], None)


def test_a_key_that_changes_is_read_when_the_file_is_written_again(reader, path, load):
    load.environ["KEY"] = "old"
    path.write_text(ONE + 'api_key = "env:KEY"\n')
    before = reader.look(FileState())

    load.environ["KEY"] = "new"
    path.write_text(path.read_text())
    after = reader.look(reader.look(before))

    assert (before.entries[0].member.settings.key, after.entries[0].member.settings.key) == ("old", "new")


def test_a_pipe_is_no_file_and_holds_up_nothing(reader, path):
    os.mkfifo(path)

    assert reader.look(FileState()).failure == f"{path}: is not a file"


async def test_backends_are_in_the_fleet_at_the_start_and_leave_it_with_the_file(watching, start, path, eventually):
    path.write_text(ONE)
    fleet = await start(watching(path))
    assert [backend.name for backend in fleet.snapshot.backends] == ["one"]

    path.write_text(TWO)
    await eventually(lambda: [backend.name for backend in fleet.snapshot.backends] == ["two"])

    path.unlink()
    await eventually(lambda: fleet.files[str(path)].failure)
    (kept,) = fleet.snapshot.backends
    await eventually(lambda: fleet.origin_of(kept.id).is_stale)
    assert kept.name == "two"


async def test_a_reload_keeps_what_a_file_listed_that_is_wrong_by_now(watching, start, path, tmp_path, eventually):
    path.write_text(ONE)
    fleet = await start(watching(path))
    path.write_text("oops")

    fleet.reconfigure(watching(path, tmp_path / "other.toml"))
    await eventually(lambda: fleet.files[str(path)].failure and fleet.files[str(tmp_path / "other.toml")].failure)

    assert [backend.name for backend in fleet.snapshot.backends] == ["one"]
    fleet.reconfigure(watching())
    assert fleet.snapshot.backends == ()


async def test_a_reload_reads_the_secrets_again(plan, start, path, load, eventually):
    path.write_text(ONE + 'api_key = "env:KEY"\n')
    sources = (FileSourceConfig(path=str(path), references=("env:KEY",)),)
    same = plan(discovery=DiscoveryConfig(enabled=False, file=sources))
    load.environ["KEY"] = "old"
    fleet = await start(same, load=load)
    renewed = []
    fleet.on_settings_changed = renewed.append

    load.environ["KEY"] = "new"
    fleet.reconfigure(same)
    await eventually(lambda: renewed)

    assert (renewed, fleet.upstream_settings["one"].key) == (["one"], "new")


async def test_a_clash_is_logged_once_and_ends_when_the_other_backend_leaves(watching, start, path):
    path.write_text(ONE + 'headers = { X-Team = "blue" }\n')
    with capture_logs() as logs:
        fleet = await start(watching(path, one="http://127.0.0.1:5"))
        fleet.reconfigure(watching(path, one="http://127.0.0.1:5"))
    assert [line["taken_by"] for line in logs if line["event"] == "fleet_file_entry_ignored"] == ["one"]
    assert "one" not in fleet.upstream_settings

    renewed = []
    fleet.on_settings_changed = renewed.append
    fleet.reconfigure(watching(path))

    assert [backend.discovery_source for backend in fleet.snapshot.backends] == ["file"]
    assert fleet.upstream_settings["one"].headers == {"X-Team": "blue"}
    assert renewed == ["one"]


async def test_an_added_backend_takes_precedence_over_one_of_a_file_until_it_is_removed(watching, start, path):
    path.write_text(ONE + 'headers = { X-Team = "blue" }\n')
    fleet = await start(watching(path))

    await fleet.added.add({"name": "one", "url": "http://127.0.0.1:5"}, persist=False)
    added = fleet.snapshot.backends[0].discovery_source, fleet.upstream_settings.get("one", DEFAULT_SETTINGS)
    await fleet.added.remove("one")

    assert added == ("api", DEFAULT_SETTINGS)
    assert fleet.snapshot.backends[0].discovery_source == "file"
    assert fleet.upstream_settings["one"].headers == {"X-Team": "blue"}


async def test_all_files_together_have_a_limit(tmp_path, load, monkeypatch):
    monkeypatch.setattr("nexus.fleet.discovery.files.discoverer.MAX_BACKENDS", 1)
    assert watched_file.MAX_BACKENDS > 1
    sources = [FileSourceConfig(path=str(tmp_path / name)) for name in ("a.toml", "b.toml")]
    for source, text in zip(sources, (ONE, TWO), strict=True):
        (tmp_path / source.path).write_text(text)
    files = FileDiscoverer(sources, load, KINDS)

    await files.open()

    assert len(files.found()) == 1
    (failure,) = [state.failure for state in files.states.values() if state.failure]
    assert "lists 1 backends, but at most 0 are allowed" in failure
