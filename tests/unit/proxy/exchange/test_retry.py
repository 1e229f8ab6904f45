"""What follows a failure depends on whether the request may have been begun, and on what traffic can afford."""

import pytest

from nexus.error_codes import UpstreamFault
from nexus.errors import UpstreamError
from nexus.proxy.exchange.retry import Next, Retries, RetryBudget
from nexus.testing.builders import make_backend

OWN = make_backend("own")
PAID = make_backend("paid", retry_unsafe=False)


def failed(fault, status=None, *, is_refusal=False):
    return UpstreamError(fault, "for the test", status=status, is_refusal=is_refusal)


def retries(max_retries=5, budget=None):
    return Retries(max_retries=max_retries, budget=budget or RetryBudget())


def after(left, error, backend=OWN, *, left_s=600.0, now_s=100.0):
    return left.after(error, backend, now_s=now_s, left_s=left_s, wait_s=120.0)


@pytest.mark.parametrize("backend", [OWN, PAID])
@pytest.mark.parametrize("fault", [UpstreamFault.REFUSED, UpstreamFault.CONNECT_TIMEOUT, UpstreamFault.TLS])
def test_what_was_never_sent_is_sent_to_another(fault, backend):
    assert after(retries(), failed(fault), backend) is Next.ANOTHER_BACKEND


def test_what_was_never_sent_costs_nothing():
    budget = RetryBudget()
    left = retries(max_retries=50, budget=budget)

    for _ in range(50):
        assert after(left, failed(UpstreamFault.REFUSED)) is Next.ANOTHER_BACKEND

    assert budget.spend(0.0)


@pytest.mark.parametrize("fault", [UpstreamFault.RESET, UpstreamFault.PROTOCOL, UpstreamFault.TRUNCATED])
@pytest.mark.parametrize(("backend", "expected"), [(OWN, Next.ANOTHER_BACKEND), (PAID, Next.GIVE_UP)])
def test_what_may_have_been_begun_is_repeated_only_where_that_costs_no_money(fault, backend, expected):
    assert after(retries(), failed(fault), backend) is expected


@pytest.mark.parametrize("backend", [OWN, PAID])
def test_a_stale_connection_is_replaced_once_even_without_retries(backend):
    left = retries(max_retries=0)

    assert after(left, failed(UpstreamFault.STALE), backend) is Next.SAME_BACKEND_FRESH
    assert after(left, failed(UpstreamFault.STALE), backend) is Next.GIVE_UP


@pytest.mark.parametrize(
    "status", [401, 402, 403, 404, 408, 421, 425, 429, 500, 501, 502, 503, 504, 507, 520, 529, 530]
)
def test_a_status_that_another_may_do_better_than_is_tried_there(status):
    assert after(retries(), failed(UpstreamFault.STATUS, status)) is Next.ANOTHER_BACKEND


@pytest.mark.parametrize(
    "error",
    [
        *(failed(fault, 503) for fault in (UpstreamFault.STATUS, UpstreamFault.IN_STREAM_ERROR)),
        *(failed(UpstreamFault.STATUS, status) for status in (408, 500, 502, 504, 507, 520, 599)),
        failed(UpstreamFault.FIRST_BYTE_TIMEOUT),
    ],
    ids=lambda error: f"{error.fault}-{error.status}",
)
def test_what_was_sent_to_a_paid_backend_is_never_sent_again(error):
    assert after(retries(), error, PAID) is Next.GIVE_UP


@pytest.mark.parametrize(
    "error",
    [
        *(failed(UpstreamFault.STATUS, status) for status in (401, 402, 403, 407, 429, 501, 529)),
        failed(UpstreamFault.CREDENTIALS, 401),
        failed(UpstreamFault.IN_STREAM_ERROR, 429),
        failed(UpstreamFault.STATUS, 503, is_refusal=True),
        failed(UpstreamFault.STATUS, 404, is_refusal=True),
    ],
    ids=lambda error: f"{error.fault}-{error.status}",
)
@pytest.mark.parametrize("backend", [OWN, PAID])
def test_a_refusal_is_followed_without_spending_from_the_budget(error, backend):
    budget = RetryBudget()
    while budget.spend(100.0):
        pass

    assert after(retries(budget=budget), error, backend) is Next.ANOTHER_BACKEND


def test_a_500_gets_one_second_opinion():
    left = retries()

    assert after(left, failed(UpstreamFault.STATUS, 500)) is Next.ANOTHER_BACKEND
    assert after(left, failed(UpstreamFault.STATUS, 500)) is Next.GIVE_UP


@pytest.mark.parametrize(
    ("status", "expected"), [(400, Next.GIVE_UP), (413, Next.GIVE_UP), (503, Next.ANOTHER_BACKEND)]
)
def test_a_stream_that_begins_with_an_error_is_judged_by_what_it_stands_for(status, expected):
    assert after(retries(), failed(UpstreamFault.IN_STREAM_ERROR, status)) is expected


def test_a_first_byte_that_does_not_come_is_waited_for_once_more():
    left = retries()

    assert after(left, failed(UpstreamFault.FIRST_BYTE_TIMEOUT)) is Next.ANOTHER_BACKEND
    assert after(left, failed(UpstreamFault.FIRST_BYTE_TIMEOUT)) is Next.GIVE_UP


@pytest.mark.parametrize(("left_s", "expected"), [(60.0, Next.ANOTHER_BACKEND), (59.0, Next.GIVE_UP)])
def test_it_is_not_waited_for_without_the_time_to_answer(left_s, expected):
    assert after(retries(), failed(UpstreamFault.FIRST_BYTE_TIMEOUT), left_s=left_s) is expected


@pytest.mark.parametrize("fault", UpstreamFault)
def test_nothing_is_tried_after_the_deadline(fault):
    assert after(retries(), failed(fault, 503), left_s=0.0) is Next.GIVE_UP


def test_no_more_backends_are_tried_than_allowed():
    left = retries(max_retries=2)

    steps = [after(left, failed(UpstreamFault.REFUSED)) for _ in range(3)]

    assert steps == [Next.ANOTHER_BACKEND, Next.ANOTHER_BACKEND, Next.GIVE_UP]


def test_a_drowning_fleet_is_given_few_retries():
    budget = RetryBudget()
    budget.spend(100.0), budget.spend(100.0), budget.spend(100.0)
    shared = [retries(budget=budget) for _ in range(20)]

    steps = [after(left, failed(UpstreamFault.STATUS, 503), now_s=101.0) for left in shared]

    # Its own refill, which a quiet proxy has always, and a fifth of the traffic.
    assert steps.count(Next.ANOTHER_BACKEND) == 3 + 4


def test_a_quiet_proxy_can_always_retry():
    budget = RetryBudget()

    spent = [budget.spend(now_s) for now_s in (1000.0,) * 7 + (1011.0,) * 4]

    assert spent == [True] * 6 + [False] + [True] * 3 + [False]


def test_a_request_moves_away_from_a_silent_backend_once():
    left = retries()

    before = left.may_move(OWN, 100.0)
    left.move(100.0)

    assert (before, left.may_move(OWN, 100.0)) == (True, False)


@pytest.mark.parametrize(("backend", "max_retries"), [(PAID, 5), (OWN, 0)])
def test_what_may_not_be_repeated_does_not_move(backend, max_retries):
    assert not retries(max_retries).may_move(backend, 100.0)


def test_moving_spends_from_the_budget():
    budget = RetryBudget()
    while budget.spend(100.0):
        pass

    assert not Retries(max_retries=5, budget=budget).may_move(OWN, 100.0)
    assert Retries(max_retries=5, budget=budget).may_move(OWN, 100.0 + RetryBudget.REFILL_S)
