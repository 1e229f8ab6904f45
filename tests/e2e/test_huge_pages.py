"""The memory of a proxy that is started as users start it."""

import re
from pathlib import Path

import openai
import pytest

from nexus.app.process.huge_pages import has_huge_pages
from nexus.simulator import Settings, Simulator, in_thread
from nexus.testing.fleets import table_of
from tests.support.process import run_nexus

pytestmark = pytest.mark.skipif(not has_huge_pages(), reason="this system has no huge pages")


def huge_bytes(pid):
    found = re.search(r"^AnonHugePages: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024


@pytest.mark.parametrize("workers", [1, 2])
def test_its_memory_is_on_huge_pages(tmp_path, workers):
    backend = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",)))
    config = f"[server]\nworkers = {workers}\n"
    with in_thread(backend), run_nexus(tmp_path, config + table_of(backend), own_interpreter=True) as nexus:
        with openai.OpenAI(base_url=f"{nexus.url}/v1", api_key="none", max_retries=0) as client:
            answer = client.chat.completions.create(model="llama3", messages=[{"role": "user", "content": "Hi"}])
        pid = nexus.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        processes = (pid, *children)
        huge = [huge_bytes(process) for process in processes]
        environs = [Path(f"/proc/{process}/environ").read_bytes() for process in processes]
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")

    assert answer.choices[0].message.content
    assert len(processes) == (1 if workers == 1 else 3)
    assert all(b"glibc.malloc.hugetlb=1" in environ for environ in environs)
    # How many the kernel has left depends on what else has run.
    assert max(huge) > 8 * 1024 * 1024
    assert b"--port" in command
    assert nexus.process.returncode == 0


def test_an_allocator_that_was_chosen_is_kept(tmp_path):
    backend = Simulator(Settings(name="gpu-1", kind="vllm", models=("llama3",)))
    with in_thread(backend), run_nexus(tmp_path, table_of(backend), environ={"PYTHONMALLOC": "pymalloc"}) as nexus:
        environ = Path(f"/proc/{nexus.process.pid}/environ").read_bytes()

    assert b"GLIBC_TUNABLES" not in environ
