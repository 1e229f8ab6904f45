"""Finds the backends that hold a block of a prompt, and how much of a prompt each of them holds."""

from collections.abc import Sequence
from typing import Final

MIN_WAYS: Final = 4


class PrefixIndex:
    """For each block, the backends that hold it, as the bits of a number: one lookup answers for all of them."""

    __slots__ = ("_branching", "_free", "_used", "holders", "successors")

    def __init__(self) -> None:
        self.holders: dict[int, int] = {}
        self.successors: dict[int, int] = {}
        """For each block with which another one was first held, how often that was: how many ways prompts go on."""
        self._branching: dict[int, int] = {}
        """Those of them that are at least ``MIN_WAYS``, so that most requests need not look further."""
        self._free: list[int] = []
        self._used = 0

    def take_bit(self) -> int:
        """Return a bit for one more backend."""
        if self._free:
            return self._free.pop()
        self._used += 1
        return 1 << (self._used - 1)

    def give_back(self, bit: int) -> None:
        """Let another backend have *bit*, which no block has any more."""
        self._free.append(bit)

    def hold(self, block: int, before: int | None, bit: int) -> None:
        """Record that the backend of *bit* holds *block*.

        :param before: the block before it in the prompt; None for the first one.
        """
        holders = self.holders
        others = holders.get(block, 0)
        holders[block] = others | bit
        if not others and before is not None:
            self.successors[before] = ways = self.successors.get(before, 0) + 1
            if ways >= MIN_WAYS:
                self._branching[before] = ways

    def drop(self, block: int, bit: int) -> None:
        """Record that the backend of *bit*, which holds *block*, does not hold it any more."""
        left = self.holders[block] & ~bit
        if left:
            self.holders[block] = left
        else:
            del self.holders[block]
            self.successors.pop(block, None)
            self._branching.pop(block, None)

    def shared_depth(self, blocks: Sequence[int], length: int, ways: int) -> int:
        """Return how many of the first *length* blocks begin at least *ways* different prompts.

        :param ways: at least ``MIN_WAYS``.
        """
        branching = self._branching
        for block in filter(branching.__contains__, reversed(blocks[:length])):
            if branching[block] >= ways:
                return blocks.index(block) + 1
        return 0

    def depths(self, blocks: Sequence[int], bits: int) -> dict[int, int]:
        """Return how many of the first *blocks* each of the backends of *bits* holds without a gap, by its bit.

        Backends that hold none are left out.
        """
        depths: dict[int, int] = {}
        alive, get = bits, self.holders.get
        depth = 0
        for depth, block in enumerate(blocks):
            holding = get(block, 0) & alive
            if holding != alive:
                if depth:
                    _note(alive ^ holding, depth, depths)
                alive = holding
                if not alive:
                    return depths
        _note(alive, len(blocks), depths)
        return depths


def _note(bits: int, depth: int, depths: dict[int, int]) -> None:
    while bits:
        lowest = bits & -bits
        depths[lowest] = depth
        bits ^= lowest
