"""Finds the endpoint at a path, in any spelling that results from a client's base URL."""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from nexus.domain.request import Endpoint
from nexus.wire.protocols import EVERY

_SLASHES: Final = re.compile(r"//+")
_ID: Final = r"([A-Za-z0-9_.~:@+=,-]{1,256})"
"""Excludes all characters that a backend could decode into another path."""
_DOTS: Final = frozenset({".", ".."})


class Found(NamedTuple):
    """An endpoint, and the path of a request for it."""

    endpoint: Endpoint
    path: str
    """As sent to backends."""
    ids: tuple[str, ...] = ()
    """The ids in the path, in order."""


def spellings(path: str) -> Iterator[str]:
    """Yield the paths that *path* may stand for, the likeliest first.

    Base URLs may have a slash too many, lack the ``/v1`` that a library does not add, or repeat the one that it adds.
    """
    plain = _SLASHES.sub("/", path).rstrip("/") or "/"
    yield plain
    bare = plain
    while bare.startswith("/v1/"):
        bare = bare[len("/v1") :]
    if bare != "/":
        yield f"/v1{bare}"
        yield bare


def find(method: str, path: str, *, is_anthropic: bool) -> Found | None:
    """Return the endpoint at *path*, spelt as in the table; None when there is none for *method*.

    :param is_anthropic: whether the client uses Anthropic's protocol, which shares some paths with OpenAI's.
    """
    matches = [(endpoint, ids) for endpoint, ids in _at(path) if method in endpoint.methods]
    if not matches:
        return None
    matches.sort(key=lambda match: (match[0].protocol == "anthropic") is not is_anthropic)
    endpoint, ids = matches[0]
    return Found(endpoint, path if ids else endpoint.path, ids)


def methods_at(path: str) -> frozenset[str]:
    """Return the methods of all endpoints at *path*; empty when there is none."""
    return frozenset(method for endpoint, _ in _at(path) for method in endpoint.methods)


def _at(path: str) -> list[tuple[Endpoint, tuple[str, ...]]]:
    if path in _FIXED:
        # Before the templates: /v1/responses/compact is not the response with the id 'compact'.
        return [(endpoint, ()) for endpoint in _FIXED[path]]
    found = []
    for pattern, endpoint in _TEMPLATES:
        match = pattern.fullmatch(path)
        if match is not None and _DOTS.isdisjoint(match.groups()):
            found.append((endpoint, match.groups()))
    return found


def _fixed() -> Mapping[str, list[Endpoint]]:
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in EVERY:
        if "{" not in endpoint.path:
            for path in (endpoint.path, *endpoint.also):
                by_path.setdefault(path, []).append(endpoint)
    return by_path


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(_ID.join(re.escape(part) for part in path.split("{id}")))


_FIXED: Final = _fixed()
_TEMPLATES: Final = [(_pattern(endpoint.path), endpoint) for endpoint in EVERY if "{" in endpoint.path]
