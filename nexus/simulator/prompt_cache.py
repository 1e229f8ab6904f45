"""The simulated cache of prompts: blocks of tokens, of which the least recently used give way."""

from collections import OrderedDict

from nexus.simulator.replies import BYTES_PER_TOKEN, count_tokens

BLOCK_TOKENS = 16


class PromptCache:
    """Remembers the blocks of prompts, each together with all before it."""

    def __init__(self, tokens: int) -> None:
        """:param tokens: its size; 0: there is no cache."""
        self._size = tokens // BLOCK_TOKENS
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def read(self, model: str, prompt: str) -> int:
        """Return how many tokens of *prompt* are cached, and cache all of it; the last token is always computed."""
        encoded, step = prompt.encode(), BLOCK_TOKENS * BYTES_PER_TOKEN
        chained = hash(model)
        blocks = [chained := hash((chained, encoded[at : at + step])) for at in range(0, len(encoded) - step + 1, step)]
        found = next((at for at, block in enumerate(blocks) if block not in self._blocks), len(blocks))
        for block in reversed(blocks):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._size:
            self._blocks.popitem(last=False)
        return max(0, min(found * BLOCK_TOKENS, count_tokens(prompt) - 1))

    def clear(self) -> None:
        """Forget everything, as a new process has."""
        self._blocks.clear()
