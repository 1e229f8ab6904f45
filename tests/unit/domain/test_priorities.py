"""A client asks for a priority, and its key limits it."""

import pytest

from nexus.domain.priorities import rank_of


@pytest.mark.parametrize(
    ("asked", "highest", "rank"),
    [
        ("high", "high", 0),
        (" HIGH ", "normal", 1),
        ("high", "low", 2),
        ("low", "high", 2),
        ("", "high", 1),
        ("urgent", "high", 1),
        ("", "low", 2),
    ],
)
def test_a_priority_is_capped_and_anything_else_is_normal(asked, highest, rank):
    assert rank_of(asked, highest) == rank
