"""Lines that cannot be written are counted, and reported as soon as writing works again."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from nexus.observability.logging import writing as log_writing
from nexus.observability.logging.writing import LogWriter, make_lock, writer_to
from nexus.testing.waiting import until

LINE = b"x" * 99 + b"\n"


class Disk:
    """Takes so many bytes, and then has no space left on it, until there is room again."""

    def __init__(self, room=10**9):
        self.room = room
        self.content = b""
        self.tries = 0
        self.error = OSError(errno.ENOSPC, "No space left on device")

    def write(self, lines):
        self.tries += 1
        if not self.room:
            raise self.error
        taken = bytes(lines[: self.room])
        self.content += taken
        self.room -= len(taken)
        return len(taken)

    @property
    def lines(self):
        return self.content.split(b"\n")[:-1]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(log_writing, "GATHER_S", 0.002)
    monkeypatch.setattr(log_writing, "RETRY_S", 0.05)


@pytest.fixture
def begun():
    """A function that begins a writer; it is stopped in the end."""
    writers = []

    def begin(write):
        writers.append(LogWriter(write, lambda loss: b"report " + msgspec.json.encode(loss) + b"\n"))
        return writers[-1]

    yield begin
    for writer in writers:
        writer.stop(2.0)


def reports(content):
    return [msgspec.json.decode(line[7:]) for line in content.split(b"\n") if line.startswith(b"report ")]


def test_a_loss_is_reported_once_when_writing_works_again(begun):
    disk = Disk(room=0)
    writer = begun(disk.write)
    began_ns = time.time_ns()
    for _ in range(3):
        writer.put(LINE)
        time.sleep(0.01)
    until(lambda: writer.dropped == 3)

    disk.room = 10**9
    until(lambda: reports(disk.content))
    writer.put(LINE)
    until(lambda: LINE in disk.content)

    (report,) = reports(disk.content)
    assert (report["queue_full"], report["write_failed"]) == (0, 3)
    assert report["error"] == "OSError: [Errno 28] No space left on device"
    assert began_ns <= report["since_ns"] <= began_ns + 10**9
    assert writer.dropped == 3


def test_a_later_loss_is_reported_by_itself(begun):
    disk = Disk(room=0)
    writer = begun(disk.write)
    for expected in (1, 2):
        disk.room = 0
        writer.put(LINE)
        until(lambda count=expected: writer.dropped == count)
        disk.room = 10**9
        until(lambda count=expected: len(reports(disk.content)) == count)

    assert [report["write_failed"] for report in reports(disk.content)] == [1, 1]


def test_failed_writes_are_retried_at_intervals(begun):
    disk = Disk(room=0)
    disk.error = BrokenPipeError(errno.EPIPE, "Broken pipe")
    writer = begun(disk.write)
    writer.put(LINE)
    until(lambda: writer.dropped == 1)

    tries = disk.tries
    time.sleep(0.3)

    assert 2 <= disk.tries - tries <= 8


def test_many_lines_during_a_failure_cause_few_writes(begun):
    disk = Disk(room=0)
    writer = begun(disk.write)

    for _ in range(5_000):
        writer.put(LINE)
    writer.stop(2.0)

    assert writer.dropped == 5_000
    assert disk.tries <= 5_000 / log_writing.LINES_AT_ONCE + 10


@pytest.mark.parametrize("room", [0, 1, 99, 100, 101, 150, 299])
def test_a_line_that_was_cut_is_finished_before_any_other(begun, room):
    disk = Disk(room=room)
    writer = begun(disk.write)
    for letter in (b"a", b"b", b"c"):
        writer.put(letter * 99 + b"\n")
    until(lambda: writer._is_failing)
    disk.room = 10**9
    writer.put(b"d" * 99 + b"\n")
    writer.stop(2.0)

    whole = [line for line in disk.lines if not line.startswith(b"report ")]
    assert all(line == line[:1] * 99 for line in whole)
    assert b"d" * 99 in whole
    assert len(whole) + writer.dropped == 4
    assert sum(report["write_failed"] for report in reports(disk.content)) == writer.dropped


def test_a_cut_line_that_is_never_finished_counts_as_lost(begun):
    disk = Disk(room=150)
    writer = begun(disk.write)
    for _ in range(3):
        writer.put(LINE)
    writer.stop(2.0)

    assert writer.dropped == 2
    assert disk.content.count(b"\n") == 1


def test_a_loss_is_reported_at_the_stop_at_the_latest(begun, monkeypatch):
    monkeypatch.setattr(log_writing, "RETRY_S", 60.0)
    disk = Disk(room=0)
    writer = begun(disk.write)
    writer.put(LINE)
    until(lambda: writer.dropped == 1)
    time.sleep(0.05)

    disk.room = 10**9
    writer.stop(2.0)

    assert [report["write_failed"] for report in reports(disk.content)] == [1]


def test_a_full_queue_is_reported_as_such(begun, monkeypatch):
    monkeypatch.setattr(log_writing, "MAX_LINES", 10)
    gate = threading.Event()
    disk = Disk()

    def write(lines):
        gate.wait(5)
        return disk.write(lines)

    writer = begun(write)
    writer.put(LINE)
    until(lambda: not writer._lines)
    for _ in range(15):
        writer.put(LINE)
    gate.set()
    writer.stop(2.0)

    (report,) = reports(disk.content)
    assert (report["queue_full"], report["write_failed"], report["error"]) == (5, 0, None)
    assert writer.dropped == 5
    assert disk.content.count(LINE) == 11


def test_the_queue_is_limited_in_bytes_too(begun, monkeypatch):
    monkeypatch.setattr(log_writing, "MAX_BYTES", 1_000)
    gate = threading.Event()
    disk = Disk()

    def write(lines):
        gate.wait(5)
        return disk.write(lines)

    writer = begun(write)
    writer.put(LINE)
    until(lambda: not writer._lines)
    for _ in range(15):
        writer.put(LINE)
    gate.set()
    until(lambda: disk.content.count(LINE) == 11)
    writer.put(LINE)
    until(lambda: disk.content.count(LINE) == 12)

    assert writer.dropped == 5


def test_a_loss_is_reported_even_if_the_queue_never_empties(begun, monkeypatch):
    monkeypatch.setattr(log_writing, "LINES_AT_ONCE", 1)
    disk = Disk(room=0)
    writer = begun(disk.write)
    writer.put(LINE)
    until(lambda: writer.dropped)

    def write_slowly(lines):
        writer.put(LINE)
        return disk.write(lines)

    writer._write = write_slowly
    disk.room = 10**9
    writer.put(LINE)
    until(lambda: reports(disk.content))
    writer._write = disk.write


def test_a_reader_that_stalls_and_reads_on_gets_whole_lines_and_the_report(begun, monkeypatch):
    monkeypatch.setattr(log_writing, "MAX_LINES", 100)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        writer = begun(writer_to(stream))
        while writer.dropped <= 10:
            writer.put(LINE)
            time.sleep(0.0001)
        received = b""
        while b"report" not in received or not received.endswith(b"\n"):
            received += os.read(reading, 65536)
        writer.stop(2.0)
    os.close(reading)

    lines = received.split(b"\n")[:-1]
    assert {line for line in lines if not line.startswith(b"report ")} == {LINE[:-1]}
    assert sum(report["queue_full"] for report in reports(received)) == writer.dropped


def test_a_pipe_that_was_closed_loses_lines_and_ends_in_time(begun):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        writer = begun(writer_to(stream))
        writer.put(LINE)
        until(lambda: writer.dropped == 1)
        began = time.monotonic()
        writer.stop(2.0)

    assert time.monotonic() - began < 1.0
    assert writer.dropped == 1


def test_an_output_that_was_made_non_blocking_is_waited_for(begun):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w") as stream:
        writer = begun(writer_to(stream))
        for _ in range(500):
            writer.put(LINE)
        received = b""
        while len(received) < 500 * len(LINE):
            received += os.read(reading, 1000)
        writer.stop(2.0)
    os.close(reading)

    assert received == LINE * 500
    assert writer.dropped == 0


def test_lines_that_a_stalled_reader_never_reads_are_counted_at_the_end(begun):
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        writer = begun(writer_to(stream))
        for _ in range(5_000):
            writer.put(LINE)
        began = time.monotonic()
        writer.stop(0.2)
        took_s = time.monotonic() - began
        os.close(reading)  # which ends the write that hangs
        writer._thread.join(5)

    # The lines that were not lost are still in the pipe, unread.
    assert took_s < 1.0
    assert 5_000 - 2**17 / len(LINE) < writer.dropped < 5_000


def test_lines_of_several_threads_are_all_there(begun):
    disk = Disk()
    writer = begun(disk.write)
    threads = [threading.Thread(target=lambda: [writer.put(LINE) for _ in range(1_000)]) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.stop(2.0)

    assert disk.content == LINE * 4_000
    assert writer._waiting_bytes == 0


@pytest.fixture
def unhurried(monkeypatch):
    """The thread gathers lines for longer than any test takes."""
    monkeypatch.setattr(log_writing, "GATHER_S", 60.0)


@pytest.mark.usefixtures("unhurried")
def test_a_line_after_a_pause_is_written_at_once_and_the_next_ones_wait(begun):
    disk = Disk()
    writer = begun(disk.write)

    writer.put(LINE)
    until(lambda: disk.content == LINE)
    writer.put(LINE)
    writer.put(LINE)
    time.sleep(0.05)

    assert (disk.content, disk.tries) == (LINE, 1)


@pytest.mark.usefixtures("unhurried")
def test_an_urgent_line_is_written_soon_after_the_lines_before_it(begun):
    disk = Disk()
    writer = begun(disk.write)
    writer.put(LINE)
    until(lambda: disk.content == LINE)

    writer.put(b"waits\n")
    writer.put(b"urgent\n", is_urgent=True)

    until(lambda: disk.content == LINE + b"waits\nurgent\n")


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("limit", [{"MAX_LINES": 100}, {"MAX_BYTES": 100 * len(LINE)}])
def test_a_queue_that_is_half_full_is_written(begun, monkeypatch, limit):
    for name, value in limit.items():
        monkeypatch.setattr(log_writing, name, value)
    disk = Disk()
    writer = begun(disk.write)
    writer.put(LINE)
    until(lambda: disk.content == LINE)

    for _ in range(60):
        writer.put(LINE)

    until(lambda: disk.content == LINE * 61)
    assert writer.dropped == 0


@pytest.mark.usefixtures("unhurried")
def test_gathered_lines_are_written_at_the_stop(begun):
    disk = Disk()
    writer = begun(disk.write)
    writer.put(LINE)
    until(lambda: disk.content == LINE)
    writer.put(LINE)

    began = time.monotonic()
    writer.stop(2.0)

    assert disk.content == LINE * 2
    assert time.monotonic() - began < 1.0


WRITES_LONG_LINES = """
import os, sys
from nexus.observability.logging.writing import LogWriter, Turn

turn = Turn()
turn.lock = int(sys.argv[2])
writer = LogWriter(lambda lines: os.write(1, lines), lambda loss: b"lost", turn)
for _ in range(40):
    writer.put(sys.argv[1].encode() * 20_000 + b"\\n")
writer.stop(20)
"""


def test_long_lines_of_several_processes_are_whole_in_one_pipe():
    lock = make_lock()
    reading, writing = os.pipe()
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITES_LONG_LINES, letter, str(lock)], stdout=writing, pass_fds=(lock,))
        for letter in "ab"
    ]
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        lines = stream.read().splitlines()
    for process in processes:
        process.wait()
    os.close(lock)

    assert sorted(lines) == [letter * 20_000 for letter in (b"a", b"b") for _ in range(40)]
