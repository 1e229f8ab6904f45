"""Pages of engines that could not be run here are decoded, and the simulator has what is read of them."""

import pytest
from msgspec.structs import replace

from nexus.domain.engine_report import EngineReport
from nexus.fleet.fetching import Fetcher, Target
from nexus.fleet.kinds import KINDS
from nexus.simulator import Settings, Simulator
from tests.support.transcripts import WRITTEN, read

BLANK = EngineReport(at=1.0, due_at=3.0)
REPORTED = {
    "sglang-loads": {"running": 4, "waiting": 2, "kv_usage": 0.125, "slots": 256, "cache_tokens": 163_840},
    "sglang-metrics": {"running": 3, "waiting": 2, "kv_usage": 0.28, "cache_tokens": 81_920, "served": 8128902.0},
    "lmstudio-v1": {"loaded": {"google/gemma-3-12b"}, "slots": 4},
    "lmstudio-v0": {"loaded": {"meta-llama-3.1-8b-instruct"}},
    "vllm-0.6-metrics": {
        "running": 3,
        "waiting": 2,
        "kv_usage": 0.4,
        "cache_tokens": 446_368,
        "started_at": 1.73184e9,
        "served": 1834.0,
    },
}


def lookup_of(transcript):
    kind = KINDS[transcript.name.partition("-")[0]]
    (lookup,) = [each for each in kind.load_lookups if each.path == transcript.path]
    return kind, lookup


def test_each_page_is_in_the_table_and_says_where_it_is_from():
    names = {path.relative_to(WRITTEN).with_suffix("").as_posix() for path in WRITTEN.rglob("*.http")}

    # test_transcripts.py reads those in folders.
    assert {name for name in names if "/" not in name} == set(REPORTED)
    assert all(read(name).response.headers["X-Origin"] for name in names)


@pytest.mark.parametrize("name", REPORTED)
def test_a_page_is_decoded(name):
    transcript = read(name)

    report = lookup_of(transcript)[1].decode(transcript.response.body, BLANK)

    assert report == replace(BLANK, **REPORTED[name])


@pytest.mark.parametrize("name", [name for name in REPORTED if name != "vllm-0.6-metrics"])
async def test_a_simulated_engine_reports_the_same_figures(name):
    transcript = read(name)
    kind, lookup = lookup_of(transcript)

    async with Simulator(Settings(kind=kind.name)) as simulator, Fetcher(timeout_s=5) as fetcher:
        response = await fetcher.get(Target(simulator.url), lookup.path)

    assert figures(lookup.decode(response.body, BLANK)) == figures(lookup.decode(transcript.response.body, BLANK))


def figures(report):
    return {name for name in EngineReport.__struct_fields__ if getattr(report, name) is not None}
