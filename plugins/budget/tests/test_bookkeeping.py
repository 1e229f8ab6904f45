"""The background work: at the start, at the end, when the store fails, when a month ends and when others are killed."""

import asyncio
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest

from nexus.api import ConfigError, tasks
from nexus.testing.waiting import eventually as until
from nexus_budget import bookkeeping
from nexus_budget.account import Reservation, Shortfall
from nexus_budget.budget import Budget
from nexus_budget.months import bounds
from nexus_budget.tokens import installed_tokenizer

MAY, JUNE = "2026-05", "2026-06"
NOON = 1_777_636_800.0
BLOCK = {"monthly_limit_usd": 10, "hard_limit_action": "block_cloud"}


async def test_money_is_there_before_the_first_request(serve, budget, store):
    async with serve(budget, **BLOCK):
        reserved = budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force)

        assert isinstance(reserved, Reservation)
        assert store.number("committed") == 1


async def test_what_was_spent_is_entered_and_the_rest_given_back_at_the_end(serve, budget, store):
    async with serve(budget, interval_s=60, **BLOCK):
        budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force).settle(Decimal("0.3"))

    assert (store.number("spent"), store.number("committed")) == (Decimal("0.3"), Decimal("0.3"))


async def test_what_was_spent_is_entered_meanwhile(serve, budget, store):
    async with serve(budget, **BLOCK):
        budget.account.spend(Decimal("0.3"), NOON)

        await until(lambda: store.number("spent") == Decimal("0.3"))


async def test_a_request_that_waits_for_money_is_woken_when_it_is_there(serve, budget):
    woken = []
    async with serve(budget, interval_s=60, wake=lambda: woken.append(True), **BLOCK):
        terms = budget.terms_in_force
        assert budget.account.reserve("one", Decimal(5), NOON, terms) is Shortfall.DRAWING

        await until(lambda: woken)

        assert isinstance(budget.account.reserve("one", Decimal(5), NOON, terms), Reservation)


async def test_a_request_that_asks_during_an_entry_is_woken_too(serve, budget, store):
    woken = []
    async with serve(budget, interval_s=60, wake=lambda: woken.append(True), **BLOCK):
        store.hanging = asyncio.Event()
        budget.sync_now.set()
        await asyncio.sleep(0.01)
        assert budget.account.reserve("one", Decimal(5), NOON, budget.terms_in_force) is Shortfall.DRAWING
        store.hanging.set()

        await until(lambda: budget.account.shortfall(Decimal(5), NOON, budget.terms_in_force) is None)

        assert woken


async def test_a_request_that_waits_when_its_month_ends_still_gets_money(serve, budget, clock):
    midnight = bounds(JUNE)[0]
    clock.unix_s = midnight - 1
    async with serve(budget, interval_s=60, **BLOCK):
        terms = budget.terms_in_force
        assert budget.account.reserve("one", Decimal(5), midnight - 1, terms) is Shortfall.DRAWING
        clock.unix_s = midnight + 1

        await until(lambda: budget.account.shortfall(Decimal(5), midnight - 1, terms) is None)


async def test_a_store_that_forgets_is_refused_under_a_limit(serve, budget, forgetful):
    with pytest.raises(ConfigError, match="forgets at a restart"):
        await serve(budget, store=forgetful, **BLOCK).__aenter__()


async def test_without_a_limit_any_store_will_do(serve, budget, forgetful):
    async with serve(budget, store=forgetful):
        budget.account.spend(Decimal(1), NOON)

        await until(lambda: forgetful.number("spent") == 1)


async def test_a_store_that_fails_closes_and_opens_the_account(serve, budget, store):
    async with serve(budget, **BLOCK):
        store.failing = True
        await until(lambda: budget.counters.events["ledger_unreachable"] == 1)
        assert budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force) is Shortfall.UNREACHABLE

        store.failing = False
        await until(lambda: budget.counters.events["ledger_reached"] == 1)
        assert isinstance(budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force), Reservation)


async def test_a_store_that_hangs_closes_the_account(serve, budget, store, monkeypatch):
    monkeypatch.setattr(bookkeeping, "MAX_CALL_S", 0.02)
    monkeypatch.setattr("nexus_budget.ledger_health.MAX_CALL_S", 0.02)
    woken = []
    async with serve(budget, wake=lambda: woken.append(True), **BLOCK):
        store.hanging = asyncio.Event()

        await until(lambda: budget.counters.events["ledger_unreachable"] == 1)

        assert budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force) is Shortfall.UNREACHABLE
        assert woken
        store.hanging.set()
        await until(budget.ledger_health.is_good)


async def test_a_store_that_fails_at_the_start_keeps_only_the_cloud_closed(serve, budget, store):
    store.failing = True

    async with serve(budget, **BLOCK):
        assert budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force) is Shortfall.UNREACHABLE


async def test_the_money_of_a_month_is_there_when_it_begins(serve, budget, store, clock):
    midnight = bounds(JUNE)[0]
    clock.unix_s = midnight - 30

    async with serve(budget, **BLOCK):
        late = budget.account.reserve("one", Decimal("0.5"), midnight - 1, budget.terms_in_force)
        clock.unix_s = midnight + 1
        early = budget.account.reserve("one", Decimal("0.5"), midnight + 1, budget.terms_in_force)
        late.settle(Decimal("0.1"))
        early.settle(Decimal("0.2"))
        await until(lambda: MAY not in budget.account.books)

    assert (store.number("spent", MAY), store.number("committed", MAY)) == (Decimal("0.1"), Decimal("0.1"))
    assert store.number("spent", JUNE) == Decimal("0.2")
    assert budget.counters.events["month_rollover"] == 1


async def test_what_a_killed_process_had_drawn_is_counted_as_spent(serve, budget, store, clock, monkeypatch):
    dead = Budget(clock)
    service = serve(dead, interval_s=60, **BLOCK)
    await service.__aenter__()
    service._task.cancel()
    monkeypatch.setattr(bookkeeping, "DEAD_AFTER_S", 0.05)
    monkeypatch.setattr(bookkeeping, "CHECK_OTHERS_S", 0.01)

    async with serve(budget, interval_s=0.005, **BLOCK):
        await until(lambda: store.number("spent") == 1)

    assert budget.counters.events["allowance_lost"] == 1
    assert store.number("committed") == 1


async def test_a_process_with_spare_money_gives_it_to_one_without(serve, budget, store, clock, monkeypatch):
    monkeypatch.setattr(bookkeeping, "CHECK_OTHERS_S", 0.01)
    rich = Budget(clock)

    async with serve(rich, **BLOCK, allowance_usd=10):
        await until(lambda: rich.book.free_usd == 10)
        async with serve(budget, **BLOCK):

            def has_some():
                return isinstance(budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force), Reservation)

            await until(has_some)

    assert store.number("committed") <= 10


async def test_at_a_reload_new_limits_act_at_once(serve, budget, store):
    async with serve(budget, **BLOCK):
        budget.account.spend(Decimal(10), NOON)
        async with serve(budget, monthly_limit_usd=20, hard_limit_action="block_cloud"):
            assert budget.terms_in_force.limit_usd == 20
        assert budget.terms_in_force.limit_usd == 10

    assert budget.counters.events["limit_increased"] == 1
    assert store.number("spent") == store.number("committed") == 10


async def stopped_after(steps, service):
    entering = asyncio.ensure_future(service.__aenter__())
    for _ in range(steps):
        await asyncio.sleep(0)
    await tasks.stop(entering)
    if not entering.cancelled():
        await service.__aexit__(None, None, None)


@pytest.mark.parametrize("steps", range(12))
async def test_a_reload_that_is_stopped_at_any_step_leaves_nothing_drawn(serve, budget, store, steps):
    async with serve(budget, interval_s=60, **BLOCK):
        budget.account.spend(Decimal("0.7"), NOON)
        await stopped_after(steps, serve(budget, interval_s=60, **BLOCK))

    assert store.number("spent") == store.number("committed") == Decimal("0.7")


@pytest.mark.parametrize("steps", range(12))
async def test_a_start_that_is_stopped_at_any_step_leaves_nothing_drawn(serve, budget, store, steps):
    budget.tokenizer = installed_tokenizer()

    await stopped_after(steps, serve(budget, **BLOCK))

    assert store.number("committed") == 0


async def test_reached_limits_are_logged_once(serve, budget):
    async with serve(budget, **BLOCK):
        budget.account.spend(Decimal(8), NOON)
        await until(lambda: budget.counters.events["soft_limit_reached"] == 1)
        budget.account.spend(Decimal(2), NOON)
        await until(lambda: budget.counters.events["hard_limit_reached"] == 1)
        await asyncio.sleep(0.05)

    assert budget.counters.events["soft_limit_reached"] == budget.counters.events["hard_limit_reached"] == 1


async def test_a_stage_that_observes_draws_nothing(serve, budget, store):
    async with serve(budget, is_observed=True, **BLOCK):
        budget.account.spend(Decimal(1), NOON)
        await until(lambda: store.number("spent") == 1)

        assert store.number("committed") == 1
        assert budget.book.drawn_usd == 0


async def test_a_store_that_hangs_keeps_neither_the_start_nor_the_end_waiting(serve, budget, store, monkeypatch):
    monkeypatch.setattr(bookkeeping, "MAX_ROUND_S", 0.02)
    monkeypatch.setattr(bookkeeping, "MAX_LAST_ROUND_S", 0.02)
    store.hanging = asyncio.Event()

    async with asyncio.timeout(2), serve(budget, **BLOCK):
        assert not isinstance(budget.account.reserve("one", Decimal(1), NOON, budget.terms_in_force), Reservation)


async def test_replicas_that_cannot_reach_the_store_share_what_was_left(store, clock, serve, monkeypatch):
    monkeypatch.setattr(bookkeeping, "CHECK_OTHERS_S", 0.0)
    terms = {"monthly_limit_usd": 10, "hard_limit_action": "block_cloud", "on_store_failure": "local_share"}
    budgets = [Budget(clock) for _ in range(3)]
    async with AsyncExitStack() as services:
        for budget in budgets:
            await services.enter_async_context(serve(budget, **terms))
        await until(lambda: all(b.account.replicas == 3 and b.book.committed_usd == 3 for b in budgets))
        store.failing = True
        await until(lambda: not any(budget.ledger_health.is_good() for budget in budgets))

        admitted = [
            sum(
                isinstance(budget.account.reserve(str(n), Decimal("0.5"), NOON, budget.terms_in_force), Reservation)
                for n in range(30)
            )
            for budget in budgets
        ]
        store.failing = False

    # Each has its own dollar, and a third of the seven that were left.
    assert admitted == [6, 6, 6]


async def test_a_process_that_never_read_the_ledger_has_no_share(store, budget, serve):
    store.failing = True

    async with serve(budget, monthly_limit_usd=10, hard_limit_action="block_cloud", on_store_failure="local_share"):
        asked = budget.account.reserve("one", Decimal("0.1"), NOON, budget.terms_in_force)

    assert asked is Shortfall.UNREACHABLE


async def test_requests_may_continue_while_the_store_fails_and_are_booked_later(store, budget, serve):
    async with serve(budget, monthly_limit_usd=10, hard_limit_action="block_cloud", on_store_failure="allow"):
        store.failing = True
        await until(lambda: not budget.ledger_health.is_good())
        reserved = budget.account.reserve("one", Decimal(4), NOON, budget.terms_in_force)
        reserved.settle(Decimal(4))
        store.failing = False
        await until(budget.ledger_health.is_good)

    assert store.number("spent") == 4


@pytest.mark.parametrize(("limit", "is_read"), [(None, False), (10, True)])
async def test_without_a_limit_and_without_spending_the_store_is_read_now_and_then(
    serve, budget, store, limit, is_read
):
    async with serve(budget, monthly_limit_usd=limit):
        read = []
        store.get = lambda key, get=store.get: read.append(key) or get(key)
        await asyncio.sleep(0.05)

        assert bool(read) is is_read


async def test_what_is_spent_without_a_limit_is_entered_soon(serve, budget, store):
    async with serve(budget):
        await asyncio.sleep(0.03)
        budget.account.spend(Decimal("0.3"), NOON)

        await until(lambda: store.number("spent") == Decimal("0.3"))


async def test_without_a_limit_a_store_that_failed_is_asked_until_it_answers(serve, budget, store, monkeypatch):
    monkeypatch.setattr(bookkeeping, "CHECK_OTHERS_S", 0.0)
    async with serve(budget):
        store.failing = True
        await until(lambda: not budget.is_ledger_reachable())
        monkeypatch.setattr(bookkeeping, "CHECK_OTHERS_S", 60.0)
        store.failing = False

        await until(budget.is_ledger_reachable)
