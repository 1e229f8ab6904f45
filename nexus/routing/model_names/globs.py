"""Patterns over model names: ``*``, ``?``, ``[a-z]`` and ``{this,that}``, case-sensitive; ``*`` also crosses ``/``."""

import re
from collections.abc import Iterator
from fnmatch import translate
from itertools import pairwise


def compile_glob(pattern: str) -> re.Pattern[str]:
    """Return the expression that matches the whole of a name. :raises ValueError: what is wrong with *pattern*."""
    # fnmatch makes expressions without catastrophic backtracking, so a client cannot send a name that takes too long.
    return re.compile("|".join(translate(alternative) for alternative in expand(pattern)))


def expand(pattern: str) -> tuple[str, ...]:
    """Return the patterns without braces that *pattern* stands for. :raises ValueError: it is invalid."""
    if not pattern:
        raise ValueError("it is empty")
    return tuple(dict.fromkeys(_expanded(pattern)))


def covers(earlier: str, later: str) -> bool:
    """Whether *earlier* certainly matches all that *later* matches; False when that is hard to decide."""
    if earlier == later:
        return True
    # If the earlier pattern has no other wildcards than stars, only a star can match a wildcard of the later one.
    simple = [alternative for alternative in expand(earlier) if not set("?[") & set(alternative)]
    return all(
        "[" not in alternative and any(re.match(translate(glob), alternative) for glob in simple)
        for alternative in expand(later)
    )


def _expanded(pattern: str) -> Iterator[str]:
    begin = _find(pattern, "{}", 0)
    if begin is None:
        yield pattern
        return
    if pattern[begin] == "}":
        raise ValueError("a '}' has no '{'")
    end, commas = _brace(pattern, begin)
    edges = [begin, *commas, end]
    for left, right in pairwise(edges):
        yield from _expanded(pattern[:begin] + pattern[left + 1 : right] + pattern[end + 1 :])


def _brace(pattern: str, begin: int) -> tuple[int, list[int]]:
    """Return the index of the brace that closes the one at *begin*, and those of the commas between them."""
    depth, commas, at = 0, list[int](), begin
    while (found := _find(pattern, "{},", at)) is not None:
        match pattern[found]:
            case "{":
                depth += 1
            case "}":
                depth -= 1
            case _ if depth == 1:
                commas.append(found)
        if depth == 0:
            return found, commas
        at = found + 1
    raise ValueError("a '{' has no '}'")


def _find(pattern: str, wanted: str, at: int) -> int | None:
    """Return the index of the first of the characters *wanted*, from *at* on and outside ``[...]``."""
    while at < len(pattern):
        if pattern[at] == "[":
            # The first character of a class may be a ']' that does not close it.
            negated = pattern[at + 1 : at + 2] == "!"
            at = pattern.find("]", at + 2 + negated)
            if at < 0:
                raise ValueError("a '[' has no ']'")
        elif pattern[at] in wanted:
            return at
        at += 1
    return None
