"""Counts the tokens of an answer: exactly if the tokenizer is known and installed, otherwise by bytes."""

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Literal

from nexus_budget.prices import plain_names

Basis = Literal["exact", "approximation", "heuristic"]
"""How tokens are counted: by the model's own tokenizer; by that of a related model, or without hidden reasoning tokens;
by the bytes of the text."""

BYTES_PER_TOKEN: Final = 4
PIECE_CHARACTERS: Final = 4096
"""Counted at once: a piece takes far less than a millisecond, whatever its content."""
MAX_PENDING: Final = 65_536
"""A longer text without a place to cut is cut anyway; counting it takes a few milliseconds."""

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
"""By a glob for the model's name, the tokenizer and its accuracy."""

_Count = Callable[[list[str], str, int], list[int]]


def installed_tokenizer() -> "Tokenizer | None":
    """Return the tokenizer with its tables loaded, which takes half a second; None if the extra is not installed."""
    if find_spec("toktok") is None:
        return None
    tokenizer = Tokenizer(import_module("toktok").batch_count)
    for encoding in sorted({encoding for encoding, _ in ENCODINGS.values()}):
        tokenizer.count("a", encoding)
    return tokenizer


class Tokenizer:
    """Counts with the tables of several models, without opening a file or a socket."""

    def __init__(self, count: _Count) -> None:
        self._count = count

    def count(self, text: str, encoding: str) -> int:
        """Return the number of tokens of *text*, computed on one thread."""
        return self._count([text], encoding, 1)[0]


class TextMeter:
    """Counts the tokens of an answer while it arrives, in pieces that cannot block the event loop."""

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
    def has_text(self) -> bool:
        return self._bytes > 0

    @property
    def basis(self) -> Basis:
        return self._basis

    def add(self, text: str) -> None:
        """Count *text*, which continues the last one."""
        # A lone surrogate cannot be encoded; replace it.
        sound = text if text.isascii() else text.encode("utf-8", "replace").decode()
        self._bytes += len(sound) if sound.isascii() else len(sound.encode())
        if self._tokenizer is None:
            return
        self._pending.append(sound)
        self._pending_size += len(sound)
        if self._pending_size >= self._count_at:
            self._count_pieces(self._tokenizer)

    def tokens(self) -> int:
        """Return the number of tokens so far."""
        if self._tokenizer is None:
            return -(-self._bytes // BYTES_PER_TOKEN)
        rest = "".join(self._pending)
        return self._tokens + (self._tokenizer.count(rest, self._encoding) if rest else 0)

    def _count_pieces(self, tokenizer: Tokenizer) -> None:
        text = "".join(self._pending)
        cut = _last_cut(text)
        if not cut and len(text) > MAX_PENDING:
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
    """Return where *text* can be cut so that its parts have as many tokens as the whole; 0 if nowhere.

    These tokenizers first split a text into words: a space between two letters always begins one, and so does a letter
    after the end of a line.
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
