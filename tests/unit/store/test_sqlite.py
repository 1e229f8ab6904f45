"""The file of the sqlite store: its owner, its other users, and failures of the disk."""

import asyncio
import os
import pwd
import shutil
import sqlite3
import threading
from contextlib import closing

import pytest

from nexus.errors import StoreError
from nexus.store import opened_file, sqlite
from nexus.store.sqlite import SqliteStore
from nexus.store.store import Put


@pytest.fixture
async def store(tmp_path):
    store = SqliteStore(tmp_path / "nexus.sqlite3", busy_timeout_s=0.05)
    await store.open()
    yield store
    await store.close()


async def test_its_files_are_readable_by_their_owner_alone(store, tmp_path):
    await store.put("a", b"1")

    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "nexus.sqlite3": 0o600,
        "nexus.sqlite3-shm": 0o600,
        "nexus.sqlite3-wal": 0o600,
    }


async def test_a_file_that_others_could_read_is_closed_to_them(tmp_path):
    path = tmp_path / "nexus.sqlite3"
    path.touch(0o644)
    store = SqliteStore(path)

    await store.open()
    await store.close()

    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("milk, bread\n" * 100)

    with pytest.raises(StoreError, match=r"notes\.txt: file is not a database"):
        await SqliteStore(path).open()

    assert path.read_text().startswith("milk")


async def test_a_folder_that_is_not_there_is_named(tmp_path):
    folder = tmp_path / "no"

    await fails_alike(
        SqliteStore(folder / "nexus.sqlite3"),
        f"there is no folder {folder}; create it, or name another file with store.path",
    )


async def test_a_path_that_is_no_regular_file_is_named(tmp_path):
    await fails_alike(SqliteStore(tmp_path), "it is not a regular file; name another file with store.path")


async def test_the_database_of_another_program_is_left_alone(tmp_path):
    path = tmp_path / "places.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.close()
    before = path.read_bytes()

    await fails_alike(SqliteStore(path), "it is the database of another program; name another file with store.path")

    assert path.read_bytes() == before


async def test_entries_of_another_shape_are_those_of_another_program(tmp_path):
    path = tmp_path / "blog.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE entries (title TEXT, body TEXT)")
    other.close()

    await fails_alike(SqliteStore(path), "it is the database of another program; name another file with store.path")


async def test_a_folder_that_only_others_may_write_to_is_named_with_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000)

    await fails_alike(
        SqliteStore(tmp_path / "nexus.sqlite3"),
        f"user 4000000 cannot write to the folder {tmp_path}; change its owner to user 4000000, or name another file"
        " with store.path",
    )


async def test_a_file_of_another_user_is_named_with_both(store, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: True)
    monkeypatch.setattr("os.geteuid", lambda: 4_000_000)

    await fails_alike(
        SqliteStore(tmp_path / "nexus.sqlite3"),
        f"user 4000000 cannot use it, because it belongs to user {pwd.getpwuid(os.getuid()).pw_name}; change its owner"
        " to user 4000000, or name another file with store.path",
    )


async def test_a_check_beside_a_running_store_waits_for_no_lock(store, tmp_path):
    blocker = sqlite3.connect(tmp_path / "nexus.sqlite3", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")

    await SqliteStore(tmp_path / "nexus.sqlite3", busy_timeout_s=0.01).check()

    blocker.close()


async def fails_alike(store, reason):
    """Assert that *store* fails with *reason* when it is opened, and when it is checked."""
    for attempt in (store.check, store.open):
        with pytest.raises(StoreError) as refused:
            await attempt()
        assert str(refused.value) == f"store {store._path}: {reason}"


async def test_a_file_of_a_newer_release_is_left_alone(tmp_path):
    path = tmp_path / "nexus.sqlite3"
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()

    with pytest.raises(StoreError, match="newer release"):
        await SqliteStore(path).open()


async def test_opening_twice_is_refused(store):
    with pytest.raises(StoreError, match="open already"):
        await store.open()


async def test_two_processes_lose_no_addition(store, tmp_path):
    other = SqliteStore(tmp_path / "nexus.sqlite3")
    await other.open()

    await asyncio.gather(*(one.add("n", 1) for one in (store, other) for _ in range(50)))

    assert await store.add("n", 0) == 100
    await other.close()


async def test_it_recovers_by_itself_when_another_process_lets_go_of_the_lock(store, tmp_path):
    blocker = sqlite3.connect(tmp_path / "nexus.sqlite3", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        await store.put("a", b"1")

    blocker.execute("ROLLBACK")
    blocker.close()

    await store.put("a", b"2")
    assert await store.get("a") == b"2"


async def test_a_full_disk_loses_the_change_and_not_the_store(store):
    await store.put("a", b"1")
    await store._run(lambda: store._connection.execute("PRAGMA max_page_count = 1").fetchall())

    with pytest.raises(StoreError, match="full"):
        await store.apply([Put(f"filler {n}", b"x" * 60_000) for n in range(20)])

    await store._run(lambda: store._connection.execute("PRAGMA max_page_count = 100000").fetchall())
    await store.put("b", b"2")
    assert (await store.get("a"), await store.get("b")) == (b"1", b"2")


async def test_a_disk_that_hangs_blocks_neither_the_loop_nor_fills_the_memory(store, monkeypatch):
    monkeypatch.setattr(sqlite, "MAX_WAITING", 3)
    disk = threading.Event()
    hanging = [asyncio.ensure_future(store._run(disk.wait)) for _ in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(StoreError, match="overloaded"):
        await store.get("a")

    disk.set()
    await asyncio.gather(*hanging)
    assert await store.get("a") is None


async def test_no_thread_is_left_behind(tmp_path):
    store = SqliteStore(tmp_path / "nexus.sqlite3")
    await store.open()
    (thread,) = (t for t in threading.enumerate() if t.name.startswith("nexus-store"))

    await store.close()

    thread.join(timeout=2)
    assert not thread.is_alive()


async def test_a_file_that_was_deleted_takes_nothing_more(store, tmp_path):
    await store.put("a", b"1")
    (tmp_path / "nexus.sqlite3").unlink()

    for call in (store.get("a"), store.scan(""), store.put("a", b"2")):
        with pytest.raises(StoreError, match=r"nexus\.sqlite3.*No such file"):
            await call


async def test_a_file_that_was_replaced_takes_nothing_more(store, tmp_path):
    await store.put("a", b"1")
    (tmp_path / "another").write_bytes(b"")
    (tmp_path / "another").replace(tmp_path / "nexus.sqlite3")

    with pytest.raises(StoreError, match="taken its place; restart"):
        await store.put("a", b"2")


def overwrite(path, content):
    """Overwrite the content of a file, as ``cp`` does."""
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(content)


async def test_a_file_overwritten_by_an_older_copy_takes_nothing_more(store, tmp_path):
    path = tmp_path / "nexus.sqlite3"
    await store.add("spent", 1)
    older = path.read_bytes()
    await store.add("spent", 5)

    overwrite(path, older)

    for call in (store.add("spent", 1), store.get("spent"), store.scan("")):
        with pytest.raises(StoreError, match="its content was overwritten; restore the file"):
            await call
    await store.close()
    assert path.read_bytes() == older
    await store.open()
    assert await store.get("spent") == b"1"


async def test_a_file_overwritten_by_another_store_takes_nothing_more(store, tmp_path):
    path = tmp_path / "nexus.sqlite3"
    await store.add("spent", 6)
    other = SqliteStore(tmp_path / "other.sqlite3")
    await other.open()
    await other.add("spent", 1)
    await other.close()

    overwrite(path, (tmp_path / "other.sqlite3").read_bytes())

    with pytest.raises(StoreError, match="its content was overwritten"):
        await store.add("spent", 1)


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\0" + b"x" * 5000])
async def test_a_file_that_was_emptied_or_spoilt_takes_nothing_more(store, tmp_path, content):
    await store.add("spent", 6)

    overwrite(tmp_path / "nexus.sqlite3", content)

    with pytest.raises(StoreError, match="its content was overwritten"):
        await store.add("spent", 1)


async def test_the_content_that_was_there_can_be_put_back(store, tmp_path):
    path = tmp_path / "nexus.sqlite3"
    await store.add("spent", 6)
    whole = path.read_bytes()
    overwrite(path, b"")
    with pytest.raises(StoreError):
        await store.add("spent", 1)

    overwrite(path, whole)

    assert await store.add("spent", 1) == 7


async def test_a_journal_that_was_removed_takes_nothing_more(store, tmp_path):
    await store.add("spent", 6)
    (tmp_path / "nexus.sqlite3-wal").unlink()

    with pytest.raises(StoreError, match=r"its journal nexus\.sqlite3-wal was removed"):
        await store.add("spent", 1)


async def test_a_folder_that_was_removed_takes_nothing_more(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    store = SqliteStore(folder / "nexus.sqlite3")
    await store.open()
    shutil.rmtree(folder)

    with pytest.raises(StoreError, match="No such file"):
        await store.add("spent", 1)
    await store.close()


async def test_a_touched_file_is_still_the_same(store, tmp_path):
    await store.add("spent", 6)
    (tmp_path / "nexus.sqlite3").touch()
    (tmp_path / "nexus.sqlite3").chmod(0o640)

    assert await store.add("spent", 1) == 7


async def test_two_stores_may_share_a_file(store, tmp_path):
    other = SqliteStore(tmp_path / "nexus.sqlite3")
    await other.open()

    for _ in range(100):
        await asyncio.gather(store.add("spent", 1), other.add("spent", 1), store.get("spent"), other.scan(""))

    await other.close()
    assert await store.add("spent", 0) == 200


async def test_rows_of_killed_processes_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(opened_file, "MAX_OPENINGS", 3)
    path = tmp_path / "nexus.sqlite3"
    for _ in range(6):
        store = SqliteStore(path)
        await store.open()
        monkeypatch.setattr(store._file, "check", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await store.close()

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM openings").fetchone() == (3,)
