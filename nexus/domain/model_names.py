"""Compares names of models as people write them: tags, quantisations, misspellings."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import lru_cache
from heapq import nlargest
from itertools import pairwise
from typing import Final

MAX_NAMES: Final = 10_000
"""Names that are indexed; further ones are ignored."""
MAX_COMPARED: Final = 16
"""Candidates that are compared letter by letter, at some microseconds each."""
MAX_REMEMBERED: Final = 1024
"""Clients choose the names, so the cache of their neighbours is bounded."""
MAX_COMPARED_CHARACTERS: Final = 80
MIN_RATIO: Final = 0.6
"""The similarity from which two names are near: the cutoff of difflib."""

_SEPARATOR: Final = re.compile(r"[^a-z0-9]+")
_QUANTISATION: Final = re.compile(
    r"i?q\d|b?f16|fp(?:4|8|16|32)|(?:nv|mx)fp4|int[48]|w\da\d+|awq|gptq|gguf|ggml|mlx|exl[23]|bnb|\dbits?"
)
_VARIANT: Final = frozenset({"0", "1", "k", "xxs", "xs", "s", "m", "l", "xl", "nl"})
"""The parts after ``q4`` in names such as ``q4_K_M``."""


def untagged(name: str) -> str:
    """Return *name* in lower case without its tag; in ``registry:5000/team/model``, the colon begins a port."""
    path, slash, last = name.lower().rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


@lru_cache(maxsize=2 * MAX_NAMES)
def stem(name: str) -> str:
    """Return *name* without provider, tag, quantisation, separators and letter case."""
    words = [word for word in _SEPARATOR.split(untagged(name).rpartition("/")[2]) if word]
    while len(words) > 1 and (end := _without_quantisation(words)) < len(words):
        del words[end:]
    return "".join(words)[:MAX_COMPARED_CHARACTERS]


def _without_quantisation(words: list[str]) -> int:
    """Return how many of *words* come before the quantisation at their end."""
    end = len(words)
    while end > 1 and words[end - 1] in _VARIANT:
        end -= 1
    return end - 1 if end > 1 and _QUANTISATION.fullmatch(words[end - 1]) else len(words)


class NameIndex:
    """An index of names that finds similar ones without comparing all of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = {}
        self._by_base: dict[str, list[str]] = {}
        for name in names:
            self._by_stem.setdefault(stem(name), []).append(name)
            self._by_base.setdefault(untagged(name), []).append(name)
        self._pairs: list[tuple[str, int]] | None = None
        self._near: dict[str, tuple[str, ...]] = {}

    def tagged_otherwise(self, name: str) -> tuple[str, ...]:
        """Return the other names that equal *name* without its tag and letter case."""
        return tuple(other for other in self._by_base.get(untagged(name), ()) if other != name)

    def near(self, name: str) -> tuple[str, ...]:
        """Return at most :data:`MAX_COMPARED` names, nearest first: of the same stem, else of similar stems."""
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
    """Return the cached index of the first :data:`MAX_NAMES` of *names*."""
    return NameIndex(names[:MAX_NAMES])


def _most_alike(lower: str, names: list[str]) -> list[str]:
    """Return the *names* most similar to *lower*, the nearest first."""
    pairs = _letter_pairs(lower)
    if len(names) > MAX_COMPARED:
        names = nlargest(MAX_COMPARED, names, key=lambda name: (_letter_pairs(name.lower()) & pairs).bit_count())
    return sorted(names, key=lambda name: (-_ratio(lower, name.lower()[-MAX_COMPARED_CHARACTERS:]), name))


@lru_cache(maxsize=2 * MAX_NAMES)
def _letter_pairs(text: str) -> int:
    """Return the set of adjacent letter pairs of *text*, hashed into bits."""
    text = f" {text[-MAX_COMPARED_CHARACTERS:]} "
    bits = 0
    for first, second in pairwise(text):
        bits |= 1 << (ord(first) * 31 + ord(second)) % 256
    return bits


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other, autojunk=False).ratio()
