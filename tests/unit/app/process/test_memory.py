"""Memory is returned after a burst if glibc is the C library; otherwise nothing happens."""

import asyncio
import ctypes

import pytest

from nexus.app.process import memory
from nexus.tasks import start, stop

MIB = 2**20


@pytest.fixture
def resident(monkeypatch):
    """What the process is said to have in memory, in MiB, and how often it was trimmed; trimming leaves half of it."""

    class Resident:
        mib = 100
        trims = 0

        def trim(self, pad):
            assert pad == 0
            self.trims += 1
            self.mib = self.trim_to()

        def trim_to(self):
            return self.mib // 2

    resident = Resident()
    monkeypatch.setattr(memory, "resident_bytes", lambda: resident.mib * MIB)
    monkeypatch.setattr(memory, "_function", lambda name: {"malloc_trim": resident.trim}[name])
    return resident


async def trims_after(resident, grown_mib, *, is_idle=lambda: True):
    task = start(memory.give_back(is_idle, look_s=0.01), name="memory")
    await asyncio.sleep(0.05)
    resident.mib = grown_mib
    await asyncio.sleep(0.2)
    await stop(task)
    return resident.trims


async def test_memory_that_has_grown_is_trimmed_once(resident):
    assert await trims_after(resident, 400) == 1


async def test_memory_that_has_hardly_grown_is_not_trimmed(resident):
    assert await trims_after(resident, 110) == 0


async def test_memory_that_has_grown_a_little_is_not_trimmed_while_requests_run(resident):
    assert await trims_after(resident, 150, is_idle=lambda: False) == 0


async def test_memory_that_has_grown_much_and_stays_is_trimmed_while_requests_run(resident):
    assert await trims_after(resident, 300, is_idle=lambda: False) == 1


async def test_memory_that_requests_need_is_seldom_trimmed_and_then_returned(resident):
    needed_mib = 400
    resident.trim_to = lambda: needed_mib
    task = start(memory.give_back(lambda: False, look_s=0.01), name="memory")
    await asyncio.sleep(0.05)
    resident.mib = needed_mib
    await asyncio.sleep(0.3)
    trims = resident.trims

    resident.trim_to = lambda: 100
    await asyncio.sleep(0.2)
    await stop(task)

    assert 2 <= trims < 12
    assert resident.trims == trims + 1
    assert resident.mib == 100


@pytest.mark.parametrize(
    "library", [object(), OSError("no such thing"), TypeError("as on Windows")], ids=("another", "missing", "Windows")
)
async def test_another_c_library_is_left_alone(monkeypatch, library):
    def load(_name):
        if isinstance(library, Exception):
            raise library
        return library

    monkeypatch.setattr(ctypes, "CDLL", load)

    memory.bound_arenas()
    await asyncio.wait_for(memory.give_back(lambda: True, look_s=60), 2)


async def test_a_system_without_proc_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_STATM", tmp_path / "statm")

    assert memory.resident_bytes() is None
    await asyncio.wait_for(memory.give_back(lambda: True, look_s=60), 2)
