"""Each small benchmark still runs against the code as it is; how fast that is, is for ``tox -e bench`` to say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
SMALLEST = {
    "bench_explaining": {"REQUESTS": 2, "ROUNDS": 1, "MAX_RECORDS": 2},
    "bench_logging": {"EXCHANGES": 2, "ROUNDS": 1},
    "bench_metrics": {"EXCHANGES": 4, "ROUNDS": 1, "BACKENDS": 2, "MODELS": 2},
    "bench_routing": {"REQUESTS": 2, "ROUNDS": 1, "BACKENDS": 2},
    "bench_tracing": {"EXCHANGES": 2, "ROUNDS": 1},
    "bench_translation": {"ROUNDS": 1, "STREAMS": 1, "TOKENS": 4, "TURNS": 2, "REPEATS": 1},
    "bench_viewers": {"BACKENDS": 1, "MODELS_EACH": 1, "VIEWERS": 1, "SETTLE_S": 0.2, "LOOK_S": 0.5},
    "bench_wire": {"ROUNDS": 1, "LONGEST_S": 0.0},
}
"""By benchmark, the constants that make it quick, and its figures worthless."""

RUN = """
import importlib, json, sys
name, constants = sys.argv[1], json.loads(sys.argv.pop())
del sys.argv[1:]
bench = importlib.import_module(name)
assert constants.keys() <= vars(bench).keys(), constants
vars(bench).update(constants)
bench.main()
"""


def test_all_of_them_are_tried():
    assert sorted(SMALLEST) == sorted(path.stem for path in BENCH.glob("bench_*.py"))


@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs_and_says_something(name):
    if name in {"bench_translation", "bench_viewers"} and sys.platform != "linux":
        pytest.skip("it reads the time that a process took from /proc")

    # In a process of its own: some of them configure logging, or count memory, for all that runs beside them.
    words = [sys.executable, "-c", RUN, name, json.dumps(SMALLEST[name])]
    ended = subprocess.run(words, cwd=BENCH, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip()
