"""Parses PromQL queries far enough to check metric names, labels and the use of counters."""

import re
from collections.abc import Mapping
from typing import NamedTuple

TARGET = frozenset({"job", "instance"})
"""The labels that Prometheus adds to every series."""
RATES = frozenset({"rate", "increase", "irate", "resets"})
GROUPINGS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
WORDS = frozenset({"and", "or", "unless", "bool", "offset"})
TOKEN = re.compile(r'"[^"]*"|[a-zA-Z_:][\w:]*|[\d.]\w*|\[[^\]]*\]|=~|!~|!=|==|>=|<=|\S')


class Family(NamedTuple):
    """The type and labels of one metric."""

    type: str
    labels: frozenset[str]


class Selector(NamedTuple):
    """A metric in a query."""

    name: str
    labels: frozenset[str]
    """The labels of its selector."""
    is_range: bool
    within: tuple[str, ...]
    """The functions around it, innermost last."""


class Query:
    """A parsed query."""

    def __init__(self, expr: str) -> None:
        self.expr = expr
        self.selectors: list[Selector] = []
        self.groupings: list[frozenset[str]] = []
        """The labels of each ``by`` and ``on``, from left to right."""
        self._tokens = TOKEN.findall(expr)
        self._read()

    def _read(self) -> None:
        functions: list[str] = []
        pending = ""
        while self._tokens:
            token = self._tokens.pop(0)
            following = self._tokens[0] if self._tokens else ""
            if token == "(":
                functions.append(pending)
                pending = ""
            elif token == ")":
                functions.pop()
            elif token in GROUPINGS:
                self.groupings.append(self._labels(")"))
            elif token == "offset":
                self._tokens.pop(0)
            elif not re.match(r"[a-zA-Z_:]", token) or token in WORDS:
                continue
            elif following == "(" or following in GROUPINGS:
                pending = token
            else:
                self._select(token, tuple(functions))

    def _select(self, name: str, within: tuple[str, ...]) -> None:
        labels: frozenset[str] = frozenset()
        if self._tokens[:1] == ["{"]:
            labels = self._labels("}")
        is_range = bool(self._tokens) and self._tokens[0].startswith("[")
        self.selectors.append(Selector(name, labels, is_range, within))

    def _labels(self, end: str) -> frozenset[str]:
        """Consume the tokens up to *end*, and return the names among them."""
        stop = self._tokens.index(end)
        taken, self._tokens = self._tokens[:stop], self._tokens[stop + 1 :]
        return frozenset(token for token in taken if re.fullmatch(r"[a-zA-Z_]\w*", token))


def complaints(expr: str, known: Mapping[str, Family]) -> list[str]:
    """Return the errors of *expr*, given the *known* metrics."""
    query = Query(expr)
    found = [] if query.selectors else ["it asks for nothing"]
    for selector in query.selectors:
        family = known.get(selector.name)
        if family is None:
            found.append(f"there is no {selector.name}")
            continue
        labels = family.labels | TARGET
        found += [f"{selector.name} has no label {label}" for label in sorted(selector.labels - labels)]
        found += [f"{selector.name} has no label {label}" for by in query.groupings for label in sorted(by - labels)]
        found += _misuse(selector, family, query)
    return found


def _misuse(selector: Selector, family: Family, query: Query) -> list[str]:
    name = selector.name
    counts = family.type in {"counter", "histogram"}
    is_rated = selector.is_range and bool(selector.within) and selector.within[-1] in RATES
    if is_rated and not counts:
        return [f"{name} is a {family.type}, whose rate says nothing"]
    # "unless … offset" tests whether a series exists, and does not use its value.
    if counts and not is_rated and "offset" not in query.expr:
        return [f"{name} is a {family.type}, which says something only as a rate"]
    if "histogram_quantile" in selector.within:
        if not name.endswith("_bucket"):
            return [f"{name} has no buckets"]
        if not any("le" in by for by in query.groupings):
            return [f"the buckets of {name} are lost"]
    return []
