"""What the server adds is what Decimal adds, exactly: or both refuse."""

import asyncio
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus.api import LimitReached, Put
from nexus_redis.decimals import amount_text, limit_text

EXACT = Context(prec=60, Emax=60, Emin=-60, traps=[Inexact, InvalidOperation, Overflow])
"""As all stores add."""

digits = st.integers(0, 10**65) | st.integers(0, 10**6) | st.integers(0, 65).map(lambda power: 10**power)
numbers = st.builds(
    lambda sign, coefficient, exponent: Decimal(f"{sign}{coefficient}e{exponent}"),
    st.sampled_from(["", "-"]),
    digits,
    st.integers(-130, 70) | st.integers(-12, 0) | st.sampled_from([-120, -119, -118, 0, 60, 61]),
)
amounts = numbers | st.integers(-(10**61), 10**61)


@pytest.fixture(scope="module")
def judge(server, new_store):
    """Return what the store makes of a stored text, an amount and a limit; its loop lasts for the module."""
    with asyncio.Runner() as runner:
        store = new_store(server, timeout_seconds=5)
        runner.run(store.open())

        async def ask(text, amount, limit):
            await store.apply((Put("n", text.encode()),))
            try:
                total = await (store.add("n", amount) if limit is None else store.add_if_at_most("n", amount, limit))
            except LimitReached as reached:
                return "limit", reached.total
            except ValueError:
                return "refused", None
            assert Decimal((await store.get("n")).decode()) == total
            return "total", total

        yield lambda *case: runner.run(ask(*case))
        runner.run(store.close())


def expected(text, amount, limit):
    try:
        before = EXACT.create_decimal(text)
        total = EXACT.add(before, Decimal(amount))
    except DecimalException:
        return "refused", None
    if limit is not None and total > limit:
        return "limit", before
    return "total", total


@settings(max_examples=400, deadline=None)
@given(numbers, st.booleans(), amounts, st.none() | amounts)
@example(Decimal("0.1"), False, Decimal("0.2"), Decimal("0.3"))
@example(Decimal(-1), False, 1, 0)
@example(Decimal(10**60 - 1), False, 1, None)
@example(Decimal("9.99999999999999e13"), False, Decimal("0.00000000000001"), None)
@example(Decimal("1e60"), True, Decimal("-1e-119"), None)
@example(Decimal("1e-119"), True, Decimal("1e-119"), Decimal("2.5e-119"))
def test_sums_and_comparisons_equal_those_of_decimal(judge, number, is_plain, amount, limit):
    text = f"{number:f}" if is_plain else str(number)

    assert judge(text, amount, limit) == expected(text, amount, limit)


@settings(max_examples=100, deadline=None)
@given(st.text("0123456789.eE+- _n", max_size=12))
def test_what_is_no_number_is_refused_and_every_number_is_taken(judge, text):
    try:
        # Decimal also takes spaces and underscores, which no store writes.
        number = None if set(text) & set(" _n") else EXACT.create_decimal(text)
    except DecimalException:
        number = None

    outcome, total = judge(text, 0, None)

    assert (outcome, total) == (("refused", None) if number is None else ("total", number))


ZEROS = "0" * 60_000


@pytest.mark.parametrize("text", [f"1{ZEROS}1", f"1.{ZEROS}", f"{ZEROS}1", f"0.{ZEROS}"], ids=lambda text: text[:3])
def test_a_long_text_takes_no_time(judge, text):
    assert judge(text, 1, None) == expected(text, 1, None)


@pytest.mark.parametrize("amount", ["1e999999", "1e-999999", "-1e62", "1.5e-119"])
def test_an_amount_that_no_total_can_hold_is_not_sent(amount):
    assert amount_text(Decimal(amount)) is None


def test_a_limit_is_rounded_down_to_where_it_admits_the_same():
    assert limit_text(Decimal("1e-200")) == f"{Decimal('0e-119'):f}"
    assert limit_text(Decimal("-1e-200")) == f"{Decimal('-1e-119'):f}"
    assert limit_text(Decimal("1e999999")) == "1" + "0" * 62
    assert limit_text(Decimal("-1e999999")) == "-1" + "0" * 62


def test_changes_with_limits_of_any_size_are_made(judge):
    assert judge("5", 1, Decimal("1e999999")) == ("total", 6)
    assert judge("5", 1, Decimal("-1e999999")) == ("limit", 5)
