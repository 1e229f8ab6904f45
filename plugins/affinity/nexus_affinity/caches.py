"""What is in the cache of one backend, as far as the requests that it got tell."""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from nexus_affinity.index import PrefixIndex

ENTRY_BYTES: Final = 320
"""The memory that one block in the cache of one backend takes at most, as measured with tracemalloc."""

MIN_SIMILARITY: Final = 0.1
"""llama.cpp continues a slot whose prompt has this part of the new one in common (``--slot-prompt-similarity``)."""


class Entry:
    """What one request has put into a cache."""

    __slots__ = ("blocks", "fresh", "is_pending")

    def __init__(self, blocks: Sequence[int], fresh: list[int]) -> None:
        self.blocks = blocks
        self.fresh = fresh
        """Those that the cache did not hold before."""
        self.is_pending = True
        """Whether the request is under way."""


class BackendCache(ABC):
    """The cache of one backend; blocks enter it when a request is sent, and stay if the backend begins to answer."""

    def __init__(self, index: PrefixIndex) -> None:
        self.bit = index.take_bit()
        self.evictions_total = 0
        self.unread = 0
        """Blocks of prompts that the backend has yet to read, as they were not in its cache."""
        self._index = index
        self.restarts = 0
        """How often the backend had restarted when it was used last."""
        self.recent = 0.0
        """The requests that the backend got lately, relative to those of other backends: newer ones count more."""

    @property
    @abstractmethod
    def blocks(self) -> int:
        """The number of blocks that it holds."""

    @abstractmethod
    def insert(self, blocks: Sequence[int]) -> Entry:
        """Record that a request with *blocks* is sent to the backend."""

    @abstractmethod
    def confirm(self, entry: Entry) -> None:
        """Record that the backend has read the prompt of *entry*."""

    @abstractmethod
    def take_back(self, entry: Entry) -> None:
        """Record that the backend has not, as far as is known, read the prompt of *entry*."""

    @abstractmethod
    def resize(self, size: int) -> None:
        """Hold at most *size* blocks, or prompts, from now on."""

    @abstractmethod
    def clear(self) -> None:
        """Forget everything: the server has restarted, or fails."""

    def close(self) -> None:
        """Forget everything, for good."""
        self.clear()
        self._index.give_back(self.bit)


class BlockCache(BackendCache):
    """Blocks of any prompts, least recently used first; of one prompt, the last blocks go first, as in vLLM."""

    def __init__(self, index: PrefixIndex, size: int) -> None:
        super().__init__(index)
        self._size = size
        self._held: OrderedDict[int, None] = OrderedDict()

    @property
    def blocks(self) -> int:
        return len(self._held)

    def insert(self, blocks: Sequence[int]) -> Entry:
        fresh: list[int] = []
        held, index, bit = self._held, self._index, self.bit
        move = held.move_to_end
        for at in range(len(blocks) - 1, -1, -1):
            block = blocks[at]
            if block in held:
                move(block)
            else:
                held[block] = None
                index.hold(block, blocks[at - 1] if at else None, bit)
                fresh.append(block)
        if len(held) > self._size:
            self._evict()
        return Entry(blocks, fresh)

    def confirm(self, entry: Entry) -> None:
        if entry.is_pending and entry.blocks and entry.blocks[0] not in self._held:
            # Another request that began with the same blocks has failed, and has taken them back.
            self.insert(entry.blocks)
        entry.is_pending = False

    def take_back(self, entry: Entry) -> None:
        entry.is_pending = False
        for block in entry.fresh:
            if block in self._held:
                del self._held[block]
                self._index.drop(block, self.bit)

    def resize(self, size: int) -> None:
        self._size = size
        self._evict()

    def clear(self) -> None:
        for block in self._held:
            self._index.drop(block, self.bit)
        self._held.clear()

    def _evict(self) -> None:
        while len(self._held) > self._size:
            block, _ = self._held.popitem(last=False)
            self._index.drop(block, self.bit)
            self.evictions_total += 1


class SlotCache(BackendCache):
    """One prompt for each slot: that of its last request, as in llama.cpp and Ollama."""

    def __init__(self, index: PrefixIndex, size: int) -> None:
        super().__init__(index)
        self._size = size
        self._slots: list[Entry] = []
        """Least recently used first."""
        self._counts: dict[int, int] = {}
        """In how many slots each block is."""

    @property
    def blocks(self) -> int:
        return len(self._counts)

    def insert(self, blocks: Sequence[int]) -> Entry:
        replaced = self._slot_for(blocks)
        entry = Entry(blocks, [block for block in blocks if block not in self._counts])
        self._slots.append(entry)
        before: int | None = None
        for block in blocks:
            count = self._counts.get(block, 0)
            self._counts[block] = count + 1
            if not count:
                self._index.hold(block, before, self.bit)
            before = block
        if replaced is not None:
            self._remove(replaced)
        return entry

    def confirm(self, entry: Entry) -> None:
        entry.is_pending = False

    def take_back(self, entry: Entry) -> None:
        entry.is_pending = False
        if entry in self._slots:
            self._remove(entry)

    def resize(self, size: int) -> None:
        self._size = size
        while len(self._slots) > size:
            self._remove(self._slots[0])
            self.evictions_total += 1

    def clear(self) -> None:
        for block in self._counts:
            self._index.drop(block, self.bit)
        self._counts.clear()
        self._slots.clear()

    def _slot_for(self, blocks: Sequence[int]) -> Entry | None:
        """Return the entry of the slot that the engine gives to a request with *blocks*; None: an empty one.

        That is the idle slot whose prompt has most in common with it, or the one that has been idle for longest.
        """
        idle = [entry for entry in self._slots if not entry.is_pending]
        if blocks and idle:
            best = max(idle, key=lambda entry: _common(entry.blocks, blocks))
            if _common(best.blocks, blocks) >= MIN_SIMILARITY * len(blocks):
                return best
        if len(self._slots) < self._size:
            return None
        self.evictions_total += 1
        return (idle or self._slots)[0]

    def _remove(self, entry: Entry) -> None:
        self._slots.remove(entry)
        for block in entry.blocks:
            count = self._counts[block] - 1
            if count:
                self._counts[block] = count
            else:
                del self._counts[block]
                self._index.drop(block, self.bit)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of blocks with which both begin."""
    common = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        common += 1
    return common
