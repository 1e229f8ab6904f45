"""What waits, as an operator reads it."""

import pytest

from nexus.cli.commands.queue import paragraphs

NOTHING = {"models": [], "backends": [], "clients": [], "priorities": {"high": 0, "normal": 1, "low": 0}}
COUNTS = dict.fromkeys(("enqueued", "drained", "timed_out", "shed", "left", "refused"), 0)


@pytest.mark.parametrize(
    ("depth", "first"), [(0, "0 requests wait, at most 9 may"), (1, "1 request waits, at most 9 may")]
)
def test_the_first_line_says_how_many_wait(depth, first):
    queue = NOTHING | COUNTS | {"enabled": True, "depth": depth, "max_size": 9, "oldest_wait_s": 1.0}

    assert next(paragraphs(queue)) == first
