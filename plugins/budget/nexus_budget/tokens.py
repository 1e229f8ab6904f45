"""Counts the tokens of what a model said: exactly where its tokenizer is known and installed, by bytes elsewhere."""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Literal

from nexus_budget.prices import plain_names

Basis = Literal["exact", "approximation", "heuristic"]
"""How tokens are counted: as the model's maker does; by the tokenizer of a relative, or without the thoughts that are
paid for and never shown; by the bytes of the text."""

BYTES_PER_TOKEN: Final = 4
PIECE_CHARACTERS: Final = 4096
"""Counted at once: a piece takes far less than a millisecond, whatever is in it."""
MOST_PENDING: Final = 65_536
"""A text that has no place to be cut at for so long is cut anyway; counting that takes a few milliseconds."""

ENCODINGS: Final[Mapping[str, tuple[str, Basis]]] = {
    "gpt-4o*": ("o200k_base", "exact"),
    "chatgpt-4o*": ("o200k_base", "exact"),
    "gpt-4.1*": ("o200k_base", "exact"),
    "gpt-4.5*": ("o200k_base", "exact"),
    "gpt-5*": ("o200k_base", "approximation"),
    "o[134]*": ("o200k_base", "approximation"),
    "gpt-4": ("cl100k_base", "exact"),
    "gpt-4-*": ("cl100k_base", "exact"),
    "gpt-3.5*": ("cl100k_base", "exact"),
    "claude-*": ("cl100k_base", "approximation"),
}
"""By a glob for the model's name, the tokenizer, and what its count is worth."""

_Count = Callable[[list[str], str, int], list[int]]


def installed_tokenizer() -> "Tokenizer | None":
    """Return the tokenizer if the extra is installed, with its tables loaded, which takes half a second."""
    if find_spec("toktok") is None:
        return None
    tokenizer = Tokenizer(import_module("toktok").batch_count)
    for encoding in sorted({encoding for encoding, _ in ENCODINGS.values()}):
        tokenizer.count("a", encoding)
    return tokenizer


class Tokenizer:
    """The tables of several models; counting opens no file and no socket."""

    def __init__(self, count: _Count) -> None:
        self._count = count

    def count(self, text: str, encoding: str) -> int:
        """Return how many tokens *text* has, on one thread."""
        return self._count([text], encoding, 1)[0]


class TextMeter:
    """Adds up the tokens of an answer while it comes, in pieces that cannot hold up the event loop."""

    __slots__ = ("_basis", "_bytes", "_count_at", "_encoding", "_pending", "_pending_size", "_tokenizer", "_tokens")

    def __init__(self, model: str, tokenizer: Tokenizer | None) -> None:
        encoding, basis = _encoding_of(model) if tokenizer is not None else ("", "heuristic")
        self._encoding = encoding
        self._basis: Basis = basis
        self._tokenizer = tokenizer if encoding else None
        self._bytes = 0
        self._tokens = 0
        self._pending: list[str] = []
        self._pending_size = 0
        self._count_at = PIECE_CHARACTERS

    @property
    def has_heard(self) -> bool:
        return self._bytes > 0

    @property
    def basis(self) -> Basis:
        return self._basis

    def hear(self, text: str) -> None:
        """Count *text*, which goes on where the last one ended."""
        # A lone surrogate is no text; whoever sends one is not to break the counting of it.
        sound = text if text.isascii() else text.encode("utf-8", "replace").decode()
        self._bytes += len(sound) if sound.isascii() else len(sound.encode())
        if self._tokenizer is None:
            return
        self._pending.append(sound)
        self._pending_size += len(sound)
        if self._pending_size >= self._count_at:
            self._count_pieces(self._tokenizer)

    def tokens(self) -> int:
        """Return the count of all that was heard."""
        if self._tokenizer is None:
            return -(-self._bytes // BYTES_PER_TOKEN)
        rest = "".join(self._pending)
        return self._tokens + (self._tokenizer.count(rest, self._encoding) if rest else 0)

    def _count_pieces(self, tokenizer: Tokenizer) -> None:
        text = "".join(self._pending)
        cut = _last_cut(text)
        if not cut and len(text) > MOST_PENDING:
            cut, self._basis = len(text), "approximation"
        if cut:
            self._tokens += tokenizer.count(text[:cut], self._encoding)
            text = text[cut:]
        self._pending, self._pending_size = [text], len(text)
        self._count_at = len(text) + PIECE_CHARACTERS


def _encoding_of(model: str) -> tuple[str, Basis]:
    for name in plain_names(model):
        for pattern, found in ENCODINGS.items():
            if fnmatchcase(name, pattern):
                return found
    return "", "heuristic"


def _last_cut(text: str) -> int:
    """Return where *text* can be cut so that its parts have as many tokens as the whole; 0: nowhere.

    These tokenizers first split a text into words: a blank between two letters always begins one, and a letter after
    the end of a line as well.
    """
    at = len(text)
    while (at := max(text.rfind(" ", 1, at), text.rfind("\n", 1, at))) > 0:
        if _BETWEEN_LETTERS.match(text, at - 1):
            return at
        if text[at] == "\n" and _LETTER.match(text, at + 1):
            return at + 1
    return 0


_LETTER: Final = re.compile(r"[^\W\d_]")
_BETWEEN_LETTERS: Final = re.compile(r"[^\W\d_] [^\W\d_]")
