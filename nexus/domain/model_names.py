"""The names of models as people write them: what is a tag, and which names are near to another."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import lru_cache
from heapq import nlargest
from itertools import pairwise
from typing import Final

MAX_NAMES: Final = 10_000
"""As many names are compared; further ones are left out."""
MAX_COMPARED: Final = 16
"""Of these, as many as share most with a name are compared letter by letter, which takes some microseconds each."""
MAX_REMEMBERED: Final = 1024
"""Clients choose the names, so what is remembered about them is bounded."""
MAX_COMPARED_CHARACTERS: Final = 80
MIN_RATIO: Final = 0.6
"""The share of letters that two names have in common, in their order, from which on they are near: difflib's own."""

_SEPARATOR: Final = re.compile(r"[^a-z0-9]+")
_QUANTISATION: Final = re.compile(
    r"i?q\d|b?f16|fp(?:4|8|16|32)|(?:nv|mx)fp4|int[48]|w\da\d+|awq|gptq|gguf|ggml|mlx|exl[23]|bnb|\dbits?"
)
_VARIANT: Final = frozenset({"0", "1", "k", "xxs", "xs", "s", "m", "l", "xl", "nl"})
"""What follows ``q4`` in ``q4_K_M`` and its like."""


def untagged(name: str) -> str:
    """Return *name* in lower case without its tag; ``registry:5000/team/model`` has a port, and no tag."""
    path, slash, last = name.lower().rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


@lru_cache(maxsize=2 * MAX_NAMES)
def stem(name: str) -> str:
    """Return what is left of *name* without provider, tag, quantisation, separators and letter case."""
    words = [word for word in _SEPARATOR.split(untagged(name).rpartition("/")[2]) if word]
    while len(words) > 1 and (end := _without_quantisation(words)) < len(words):
        del words[end:]
    return "".join(words)[:MAX_COMPARED_CHARACTERS]


def _without_quantisation(words: list[str]) -> int:
    """Return how many of *words* are left without the quantisation at their end."""
    end = len(words)
    while end > 1 and words[end - 1] in _VARIANT:
        end -= 1
    return end - 1 if end > 1 and _QUANTISATION.fullmatch(words[end - 1]) else len(words)


class NameIndex:
    """Many names, prepared so that those near to another one are found without comparing all of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = {}
        self._by_base: dict[str, list[str]] = {}
        for name in names:
            self._by_stem.setdefault(stem(name), []).append(name)
            self._by_base.setdefault(untagged(name), []).append(name)
        self._pairs: list[tuple[str, int]] | None = None
        self._near: dict[str, tuple[str, ...]] = {}

    def tagged_otherwise(self, name: str) -> tuple[str, ...]:
        """Return the names that differ from *name* in their tag alone, in having none, or in letter case."""
        return tuple(other for other in self._by_base.get(untagged(name), ()) if other != name)

    def near(self, name: str) -> tuple[str, ...]:
        """Return at most :data:`MAX_COMPARED` names, the nearest first: those of the same stem and, where there is
        none, those whose stem has most letters in common with that of *name*.
        """
        name = name[-MAX_COMPARED_CHARACTERS:]
        found = self._near.get(name)
        if found is None:
            if len(self._near) >= MAX_REMEMBERED:
                self._near.clear()
            found = self._near[name] = tuple(self._nearest(name))
        return found

    def _nearest(self, name: str) -> list[str]:
        wanted = stem(name)
        if not wanted:
            return []
        stems = [wanted] if wanted in self._by_stem else self._near_stems(wanted)
        lower = name.lower()
        names = (other for each in stems for other in _most_alike(lower, self._by_stem[each]))
        return list(names)[:MAX_COMPARED]

    def _near_stems(self, wanted: str) -> list[str]:
        """Return the stems near to *wanted*, the nearest first."""
        if self._pairs is None:
            self._pairs = [(each, _letter_pairs(each)) for each in self._by_stem]
        pairs = _letter_pairs(wanted)
        compared = nlargest(MAX_COMPARED, self._pairs, key=lambda entry: (entry[1] & pairs).bit_count())
        ratios = {each: _ratio(wanted, each) for each, _ in compared}
        near = [each for each, ratio in ratios.items() if ratio >= MIN_RATIO]
        return sorted(near, key=lambda each: (-ratios[each], each))


@lru_cache(maxsize=4)
def index_of(names: tuple[str, ...]) -> NameIndex:
    """Return the index of *names*, the first :data:`MAX_NAMES` of them; it is built once for the same names."""
    return NameIndex(names[:MAX_NAMES])


def _most_alike(lower: str, names: list[str]) -> list[str]:
    """Return the *names* that have most in common with *lower*, the nearest first."""
    pairs = _letter_pairs(lower)
    if len(names) > MAX_COMPARED:
        names = nlargest(MAX_COMPARED, names, key=lambda name: (_letter_pairs(name.lower()) & pairs).bit_count())
    return sorted(names, key=lambda name: (-_ratio(lower, name.lower()[-MAX_COMPARED_CHARACTERS:]), name))


@lru_cache(maxsize=2 * MAX_NAMES)
def _letter_pairs(text: str) -> int:
    """Return which pairs of letters *text* has, as a set of bits."""
    text = f" {text[-MAX_COMPARED_CHARACTERS:]} "
    bits = 0
    for first, second in pairwise(text):
        bits |= 1 << (ord(first) * 31 + ord(second)) % 256
    return bits


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
