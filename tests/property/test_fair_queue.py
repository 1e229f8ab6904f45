"""Whatever comes and goes, requests wait in a fair order: none is lost, forgotten, or kept waiting by a flood."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.proxy.waiting.claim import Claim
from nexus.proxy.waiting.fair_queue import OLDEST_EVERY, FairQueue, Search, Waiter

thoroughly = settings(max_examples=150)

BACKENDS = ("gpu", "cpu", "tpu")
claims = st.builds(
    Claim,
    client=st.sampled_from("abcd"),
    rank=st.integers(0, 2),
    tokens=st.integers(0, 1000),
    size_bytes=st.integers(0, 99),
    model=st.sampled_from(["llama3", "qwen3"]),
    kind=st.integers(0, 1),
)
awaited = st.frozensets(st.sampled_from(BACKENDS), min_size=1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("push"), claims, awaited),
        st.tuples(st.just("leave"), st.integers(0, 99)),
        st.tuples(st.just("move"), st.integers(0, 99), awaited),
        st.tuples(st.just("free"), st.sampled_from(BACKENDS)),
    ),
    max_size=60,
)


def next_at(queue, backend):
    return next(queue.in_turn(backend, Search()), None)


def serve(queue, backend):
    """Give a slot of *backend* to the request whose turn it is, and return that."""
    waiter = next_at(queue, backend)
    if waiter is not None:
        queue.charge(waiter, backend)
        queue.remove(waiter)
    return waiter


def add(queue, claim, *backends):
    waiter = Waiter(claim, 0.0)
    queue.push(waiter, frozenset(backends))
    return waiter


@thoroughly
@given(steps=steps)
def test_the_books_agree_with_what_waits(steps):
    queue, waiting = FairQueue(), []

    for step in steps:
        match step:
            case ("push", claim, backends):
                waiting.append(add(queue, claim, *backends))
            case ("leave", number) if waiting:
                assert queue.remove(waiting.pop(number % len(waiting)))
            case ("move", number, backends) if waiting:
                queue.move(waiting[number % len(waiting)], backends)
            case ("free", backend):
                able = [waiter for waiter in waiting if backend in waiter.group.backends]
                served = serve(queue, backend)
                assert (served is None) == (not able)
                if served is not None:
                    assert served.claim.rank == min(waiter.claim.rank for waiter in able)
                    waiting.remove(served)
                    assert not queue.remove(served)

        assert len(queue) == len(waiting)
        assert queue.size_bytes == sum(waiter.claim.size_bytes for waiter in waiting)
        assert queue.by_rank == [sum(waiter.claim.rank == rank for waiter in waiting) for rank in range(3)]
        assert set(queue.all_in_turn()) == set(waiting)
        assert {name: len(waiters) for name, waiters in queue.models.items()} == Counter(
            waiter.claim.model for waiter in waiting
        )
        for backend in BACKENDS:
            assert (backend in queue.places) == any(backend in waiter.group.backends for waiter in waiting)
        counts = Counter((waiter.claim.rank, waiter.claim.client) for waiter in waiting)
        assert [len(client.waiters) for _, client in queue.largest_clients(99)] == sorted(counts.values(), reverse=True)
    for waiter in waiting:
        queue.remove(waiter)
    assert not any((queue._clients[0], queue._groups, queue._sets, queue.places, queue._models, len(queue)))


@thoroughly
@given(steps=steps, backend=st.sampled_from(BACKENDS))
def test_a_slot_that_none_can_use_is_offered_to_each_once(steps, backend):
    queue = FairQueue()
    for step in steps:
        if step[0] == "push":
            add(queue, step[1], *step[2])
    search, asked = Search(), []

    while found := [waiter for waiter in queue.in_turn(backend, search) if not search.tried.add(waiter)]:
        asked += found

    assert len(asked) == len(set(asked))
    assert set(asked) == {waiter for waiter in queue.all_in_turn() if backend in waiter.group.backends}


@thoroughly
@given(
    sizes=st.lists(st.lists(st.integers(1, 500), min_size=1, max_size=4), min_size=2, max_size=5),
    slots=st.integers(1, 200),
)
def test_clients_that_always_wait_get_equally_many_tokens(sizes, slots):
    """Two clients differ by their largest requests, and by what the oldest requests get out of turn."""
    queue, used = FairQueue(), Counter()
    largest = max(map(max, sizes))
    for client, each in enumerate(sizes):
        used[client] = 0
        for tokens in each * (slots + 1):
            add(queue, Claim(client=str(client), tokens=tokens), "gpu")

    for _ in range(slots):
        waiter = serve(queue, "gpu")
        used[int(waiter.claim.client)] += waiter.claim.tokens

    out_of_turn = slots // OLDEST_EVERY
    assert max(used.values()) - min(used.values()) <= (2 + out_of_turn) * largest


@thoroughly
@given(
    before=st.lists(claims, max_size=10),
    own=st.integers(1, 1_000_000),
    debt=st.integers(0, 1_000_000),
    newcomers=st.lists(st.integers(0, 5), min_size=1, max_size=9),
)
def test_no_request_starves(before, own, debt, newcomers):
    """Each that waits is served, however many new clients come, once those that came before it could be served."""
    queue = FairQueue()
    for claim in before:
        add(queue, Claim(client=claim.client, rank=1, tokens=claim.tokens), "gpu")
    if debt:
        add(queue, Claim(client="big", rank=1, tokens=debt), "gpu")
    target = add(queue, Claim(client="big", rank=1, tokens=own), "gpu")
    bound = OLDEST_EVERY * len(queue)

    for slot in range(bound):
        for number in range(newcomers[slot % len(newcomers)]):
            add(queue, Claim(client=f"new-{slot}-{number}", rank=1, tokens=1), "gpu")
        if serve(queue, "gpu") is target:
            return
    raise AssertionError("it has starved")


@settings(max_examples=20)
@given(large=st.integers(50, 100), small=st.integers(4, 6), others=st.integers(6, 9))
def test_a_client_with_large_requests_gets_no_more_by_sending_them_one_by_one(large, small, others):
    queue, used, slots = FairQueue(), Counter(), 1000
    for number in range(others):
        for _ in range(slots):
            add(queue, Claim(client=str(number), tokens=small), "gpu")
    add(queue, Claim(client="large", tokens=large), "gpu")

    for _ in range(slots):
        served = serve(queue, "gpu").claim
        used[served.client] += served.tokens
        if served.client == "large":
            add(queue, served, "gpu")

    assert used["large"] <= used["0"] + 2 * large


@thoroughly
@given(tokens=st.integers(1, 100), before=st.integers(20, 200), after=st.integers(1, 60))
def test_a_client_that_comes_late_is_not_paid_back(tokens, before, after):
    queue = FairQueue()
    for client in ("a", "b"):
        for _ in range(before + after):
            add(queue, Claim(client=client, tokens=tokens), "gpu")
    for _ in range(before):
        serve(queue, "gpu")
    for _ in range(after):
        add(queue, Claim(client="late", tokens=tokens), "gpu")

    served = Counter(serve(queue, "gpu").claim.client for _ in range(after))

    assert served["late"] <= after / 3 + 2


@thoroughly
@given(flood=st.integers(1, 300), others=st.integers(1, 5), tokens=st.integers(1, 1000))
def test_a_flood_delays_another_client_by_few_slots(flood, others, tokens):
    queue = FairQueue()
    for _ in range(flood):
        add(queue, Claim(client="flood", tokens=tokens), "gpu")
    for _ in range(3):
        serve(queue, "gpu")
    singles = {add(queue, Claim(client=f"single-{number}", tokens=tokens), "gpu") for number in range(others)}

    # One slot for each of them, one for the flood, and one for its oldest request.
    served = {serve(queue, "gpu") for _ in range(others + 2)}

    assert singles <= served


@thoroughly
@given(waiting=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=30), newcomer=claims)
def test_a_full_queue_sheds_the_lowest_priority_first(waiting, newcomer):
    queue = FairQueue()
    for client, rank in waiting:
        add(queue, Claim(client=client, rank=rank), "gpu")
    counts = Counter(waiting)

    victim = queue.to_shed(newcomer)

    lowest = max((rank for _, rank in waiting), default=-1)
    if victim is None:
        own = counts[newcomer.client, newcomer.rank]
        assert lowest <= newcomer.rank
        assert all(count <= own + 1 for (_, rank), count in counts.items() if rank == newcomer.rank)
        return
    claim = victim.claim
    assert claim.rank == lowest >= newcomer.rank
    assert counts[claim.client, claim.rank] == max(count for (_, rank), count in counts.items() if rank == lowest)
    same = [each for each in queue.all_in_turn() if (each.claim.client, each.claim.rank) == (claim.client, lowest)]
    assert victim is max(same, key=lambda waiter: waiter.arrival)
