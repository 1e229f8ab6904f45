"""What is drawn next, and what is given back."""

from decimal import Decimal

import pytest

from nexus_budget.book import Book, next_draw
from nexus_budget.months import bounds, first_day_after, month_of

ALLOWANCE = Decimal(1)


def book(short=0, **amounts):
    made = Book("2026-05")
    if short:
        made.note_lacking("one", Decimal(short))
    for name, amount in amounts.items():
        setattr(made, f"{name}_usd", Decimal(str(amount)))
    return made


@pytest.mark.parametrize(
    ("amounts", "ceiling", "others_want", "draw"),
    [
        ({}, None, False, 1),
        ({}, 10, False, 1),
        ({"committed": "9.4"}, 10, False, "0.6"),
        ({"committed": 11}, 10, False, 0),
        ({"drawn": 1}, 10, False, 0),
        ({"drawn": 1, "reserved": "0.6"}, 10, False, "0.6"),
        ({"drawn": 1, "short": 3}, 10, False, 3),
        ({"drawn": 5}, 10, False, -3),
        ({"drawn": 5, "used": 4}, 10, False, 0),
        ({"drawn": 1}, 10, True, -1),
        ({"drawn": 1, "used": "0.25"}, 10, True, "-0.5"),
        ({}, 10, True, 0),
        ({"short": 1}, 10, True, 2),
        ({"drawn": 2, "excess": 1}, 10, False, -1),
        ({"settled": 3}, None, False, 1),
    ],
)
def test_a_book_draws_what_it_lacks_and_gives_back_what_it_does_not_need(amounts, ceiling, others_want, draw):
    ceiling = None if ceiling is None else Decimal(ceiling)

    assert next_draw(book(**amounts), ALLOWANCE, ceiling, others_want=others_want) == Decimal(draw)


def test_without_an_allowance_only_what_is_under_way_is_drawn():
    assert next_draw(book(), Decimal(0), None, others_want=False) == 0
    assert next_draw(book(reserved=2), Decimal(0), None, others_want=False) == 2


def test_a_request_lacks_its_money_once_however_often_it_asks():
    made = Book("2026-05")

    for request_id, amount in (("one", 3), ("one", 2), ("two", 1), ("one", 3)):
        made.note_lacking(request_id, Decimal(amount))

    assert made.short_usd == 4


def test_a_request_that_was_served_or_drawn_for_lacks_nothing():
    made = Book("2026-05")
    for request_id in ("served", "drawn for", "late"):
        made.note_lacking(request_id, Decimal(1))
    made.note_served("served")
    made.note_served("late")

    draft = made.write(Decimal(1))
    made.note_lacking("late", Decimal(1))
    made.entered(draft)

    assert made.short_usd == 1


@pytest.mark.parametrize(
    ("amounts", "could"),
    [
        ({"committed": 8}, True),
        ({"committed": "8.5"}, False),
        ({"committed": "8.5", "drawn": "0.5"}, True),
        ({"committed": "8.5", "drawn": "0.5", "reserved": "0.5"}, False),
        ({"committed": 10, "drawn": 2, "excess": 2}, True),
        ({"committed": 8, "short": 40}, True),
    ],
)
def test_what_the_budget_still_has_can_be_drawn(amounts, could):
    made = book(**amounts)
    made.is_read = True

    assert made.could_draw(Decimal(2), Decimal(10)) is could


def test_a_month_knows_where_it_begins_and_ends():
    begin, end = bounds("2026-12")

    assert (month_of(begin), month_of(end - 1), month_of(end)) == ("2026-12", "2026-12", "2027-01")
    assert first_day_after("2026-12") == "2027-01-01"
