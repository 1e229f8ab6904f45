"""Reads are counted by backend and result, for a bounded number of backends."""

from nexus.fleet.loads.counts import MAX_BACKENDS, ReadCounts, ReadResult


def test_reads_are_counted_by_result():
    counts = ReadCounts()

    for result in (ReadResult.SUCCESS, ReadResult.SUCCESS, ReadResult.FAILURE):
        counts.note("a", result)

    assert counts.results == {"a": {"success": 2, "failure": 1}}


def test_the_oldest_of_too_many_backends_is_forgotten():
    counts = ReadCounts()

    for number in range(MAX_BACKENDS + 1):
        counts.note(f"gpu-{number}", ReadResult.ABSENT)

    assert len(counts.results) == MAX_BACKENDS
    assert "gpu-0" not in counts.results
