"""The remembered caches hold what engines hold, within their size, and the index agrees with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_affinity.caches import BlockCache, SlotCache
from nexus_affinity.index import PrefixIndex


def depth(index, cache, blocks):
    return index.depths(blocks, cache.bit).get(cache.bit, 0)


def test_the_least_recently_used_blocks_give_way():
    index = PrefixIndex()
    cache = BlockCache(index, 4)
    for blocks in ((1, 2), (3, 4), (1, 2), (5, 6)):
        cache.insert(blocks)

    assert [depth(index, cache, blocks) for blocks in ((1, 2), (3, 4), (5, 6))] == [2, 0, 2]
    assert cache.evictions_total == 2


def test_of_one_prompt_the_last_blocks_give_way_first():
    index = PrefixIndex()
    cache = BlockCache(index, 4)
    cache.insert((1, 2, 3, 4))
    cache.insert((9,))

    assert depth(index, cache, (1, 2, 3, 4)) == 3


def test_a_gap_ends_what_is_held():
    index = PrefixIndex()
    cache = BlockCache(index, 9)
    cache.insert((1, 3))

    assert depth(index, cache, (1, 2, 3)) == 1


def test_a_smaller_cache_holds_less_at_once():
    index = PrefixIndex()
    cache = BlockCache(index, 9)
    cache.insert(tuple(range(9)))

    cache.resize(4)

    assert (cache.blocks, len(index.holders)) == (4, 4)


def test_a_slot_continues_the_prompt_that_it_has():
    index = PrefixIndex()
    cache = SlotCache(index, 2)
    cache.confirm(cache.insert((1, 2)))
    cache.confirm(cache.insert((7, 8)))

    cache.confirm(cache.insert((1, 2, 3)))

    assert [depth(index, cache, blocks) for blocks in ((1, 2, 3), (7, 8))] == [3, 2]
    assert cache.evictions_total == 0


def test_a_slot_that_is_in_use_keeps_its_prompt():
    index = PrefixIndex()
    cache = SlotCache(index, 2)
    cache.insert((1, 2))

    cache.confirm(cache.insert((1, 5)))
    cache.confirm(cache.insert((8, 9)))

    assert [depth(index, cache, blocks) for blocks in ((1, 2), (1, 5), (8, 9))] == [2, 1, 2]


def test_backends_are_told_apart_and_their_bits_used_again():
    index = PrefixIndex()
    caches = [BlockCache(index, 9) for _ in range(70)]
    for number, cache in enumerate(caches):
        cache.insert(tuple(range(number % 5)))

    found = index.depths((0, 1, 2, 3), sum(cache.bit for cache in caches))

    assert [found.get(cache.bit, 0) for cache in caches] == [number % 5 for number in range(70)]
    caches[3].close()
    assert BlockCache(index, 9).bit == caches[3].bit


ACTIONS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 6), st.sampled_from(["keep", "take_back", "clear"])),
    max_size=30,
)


@pytest.mark.parametrize("kind", [BlockCache, SlotCache])
@given(actions=ACTIONS)
def test_the_index_always_agrees_with_the_caches(kind, actions):
    index = PrefixIndex()
    caches = [kind(index, 6) for _ in range(3)]
    open_ = []
    for which, name, length, then in actions:
        cache = caches[which]
        entry = cache.insert(tuple((name, at) for at in range(length)))
        if then == "clear":
            cache.clear()
        open_.append((cache, entry, then))
    for cache, entry, then in open_:
        (cache.take_back if then == "take_back" else cache.confirm)(entry)

    held = [{block for block, bits in index.holders.items() if bits & cache.bit} for cache in caches]

    assert [len(blocks) for blocks in held] == [cache.blocks for cache in caches]
    assert all(index.holders.values())
    for cache in caches:
        cache.close()
    assert index.holders == {}
