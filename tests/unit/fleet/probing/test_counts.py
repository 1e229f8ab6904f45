"""Probes are counted by result, and successful ones are timed."""

from nexus.fleet.kinds import KINDS
from nexus.fleet.probing import counts as probe_counts
from nexus.fleet.probing.counts import ProbeCounts
from nexus.fleet.probing.result import Failure, Success, SuccessWithParseError

KIND = KINDS["vllm"]


def test_each_end_is_counted():
    counts = ProbeCounts()

    counts.note("a", Success(kind=KIND, latency_ms=10, models={}))
    counts.note("a", SuccessWithParseError(kind=KIND, latency_ms=30, error="no list"))
    counts.note("a", Failure("refused"))
    counts.note("b", Failure("refused"))

    assert counts.results == {"a": {"success": 1, "unreadable": 1, "failure": 1}, "b": {"failure": 1}}
    assert (sum(counts.latencies["a"].counts), counts.latencies["a"].sum) == (2, 0.04)
    assert "b" not in counts.latencies


def test_counted_backends_are_limited(monkeypatch):
    monkeypatch.setattr(probe_counts, "MAX_BACKENDS", 2)
    counts = ProbeCounts()

    for name in ("a", "b", "c"):
        counts.note(name, Success(kind=KIND, latency_ms=10, models={}))

    assert (list(counts.results), list(counts.latencies)) == (["b", "c"], ["b", "c"])
