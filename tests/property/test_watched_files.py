"""Whatever happens to a watched file, the fleet is what it listed when it was last in order."""

import json
from functools import partial
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.config.discovery_schema import FileSourceConfig
from nexus.config.one_backend import load_backend
from nexus.fleet.discovery.files.watched_file import FileReader, FileState
from nexus.fleet.kinds import KINDS


def listing(names):
    return json.dumps([{"name": name, "url": f"http://10.0.0.{ord(name)}"} for name in names]).encode()


NAMES = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=4)
WRONG = st.sampled_from(
    [
        b"",
        b"  \n",
        b"[",
        b"\xff\xfe",
        b"null",
        b"7",
        b"{}",
        b'{"backends": 1}',
        b'{"backends": [{"name": "a"}]}',
        b'{"backends": [], "server": {}}',
        b'[{"name": "a", "url": "http://x"}, {"name": "a", "url": "http://y"}]',
        b'[{"name": "a", "url": "http://x", "api_key": "env:SECRET"}]',
        b'[{"name": "a", "url": "http://169.254.169.254"}]',
        b"[" * 100_000,
    ]
)
CONTENTS = st.one_of(NAMES.map(listing), WRONG)
ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["replace", "overwrite", "link"]), CONTENTS),
    st.tuples(st.sampled_from(["remove", "folder", "dangle", "touch", "cut"]), st.none()),
)


VALID = {listing(names): list(names) for size in range(5) for names in permutations("abcd", size)}


def act(path, action, content, number):
    """Do to the file what programs do; what *path* leads to is removed first where it could not be written."""
    version = path.with_name(f"version-{number}")
    content = path.read_bytes() if content is None and path.is_file() else content or b""
    if path.is_dir():
        path.rmdir()
    match action:
        case "replace":
            version.write_bytes(content)
            version.replace(path)
        case "overwrite" | "touch" | "cut":
            if path.is_symlink() and not path.exists():
                path.unlink()
            path.write_bytes(content[:-1] if action == "cut" else content)
        case "link" | "dangle":
            if action == "link":
                version.write_bytes(content)
            beside = path.with_name("beside")
            beside.symlink_to(version.name)
            beside.replace(path)
        case "remove" | "folder":
            path.unlink(missing_ok=True)
            if action == "folder":
                path.mkdir()


@settings(deadline=None, max_examples=60)
@given(st.lists(ACTIONS, max_size=12))
def test_the_fleet_is_what_the_file_listed_when_it_was_last_in_order(actions):
    state, expected = FileState(), []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.json"
        load = partial(load_backend, environ={"SECRET": "canary"})
        reader = FileReader(FileSourceConfig(path=str(path)), load, KINDS)

        for number, (action, content) in enumerate(actions):
            act(path, action, content, number)
            for _ in range(3):
                state = reader.look(state)

            now = VALID.get(path.read_bytes()) if path.is_file() else None
            expected = expected if now is None else now
            assert [entry.member.config.name for entry in state.entries] == expected
            assert (state.failure is None) == (now is not None)
            assert "canary" not in (state.failure or "")


@settings(deadline=None, max_examples=30)
@given(st.permutations("abcd"), st.sampled_from(["replace", "overwrite", "link", "touch"]))
def test_the_same_list_written_again_disturbs_no_backend(names, action):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fleet.json"
        reader = FileReader(FileSourceConfig(path=str(path)), partial(load_backend, environ={}), KINDS)
        path.write_bytes(listing("abcd"))
        before = reader.look(FileState())

        act(path, action, listing(names), 1)
        after = reader.look(reader.look(before))

        known = {entry.member.id: entry.member for entry in before.entries}
        assert len(after.entries) == len(known)
        assert all(entry.member is known[entry.member.id] for entry in after.entries)
