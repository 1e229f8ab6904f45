"""Decodes what routing reads of a JSON body, and refuses what two readers could understand in two ways."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from nexus.errors import RequestError
from nexus.wire.json_members import CrowdedObjectError, members
from nexus.wire.requests.limits import MAX_COUNTED_TOKENS, MAX_ITEMS, MAX_MODEL_CHARACTERS, RoutedBody

T = TypeVar("T", bound=RoutedBody)

LARGE_BYTES: Final = 64 * 1024
"""A shorter body cannot break a limit on sizes; a longer one is not searched for what only its author would miss."""

_WHERE: Final = re.compile(r"(.*) - at `\$\.?(.*)`")
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Shape(NamedTuple, Generic[T]):
    """What bodies of one protocol look like."""

    decoder: msgspec.json.Decoder[T]
    lists: tuple[str, ...]
    """Members of which each has at most 100 000 items."""
    max_bytes: Mapping[str, int]
    """How long some members may be: engines compile them before they answer, in time that grows faster than them."""
    refused: Collection[str] = ()
    """Members that no request of this protocol may have."""


def read_body(shape: Shape[T], body: bytes, bulk_names: Iterable[str]) -> tuple[T, Mapping[str, bytes]]:
    """Decode *body*; return its fields, and the bytes of those of its members in *bulk_names* that are there.

    :raises RequestError: whatever the bytes are, nothing else.
    """
    # Never `from exc`: what the decoder raises can hold the body, and with it the prompt. And all of it in here: what
    # one decoder follows can be too deep for another, with a few more frames on the stack.
    try:
        fields = shape.decoder.decode(body)
        if not body.isascii():
            # The decoder does not look at the bytes of what it skips.
            body.decode()
        if fields.model:
            check_model(fields.model)
        else:
            _refuse_other_spellings(body)
        bulk: dict[str, bytes] = {}
        rest = body
        for name in bulk_names:
            if value := getattr(fields, name):
                bulk[name] = raw = bytes(value)
                rest = _without(rest, name, raw)
        if not is_plain(rest):
            _refuse_ambiguous(rest)
        _refuse_endless_numbers(rest)
        if len(body) > LARGE_BYTES:
            _check_sizes(fields, shape)
    except msgspec.ValidationError as exc:
        raise _invalid_value(exc, shape.refused) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestError("invalid_json", "the body is not valid JSON in UTF-8") from None
    except RecursionError:
        raise RequestError("invalid_json", "the body is nested too deeply") from None
    return fields, bulk


def check_model(model: str) -> None:
    """Raise RequestError when *model*, which is not empty, cannot be the name of one."""
    if len(model) > MAX_MODEL_CHARACTERS:
        raise RequestError("invalid_value", f"'model' is longer than {MAX_MODEL_CHARACTERS} characters", param="model")
    if not model.isprintable():
        raise RequestError("invalid_value", "'model' has control characters in it", param="model")


def _refuse_other_spellings(body: bytes) -> None:
    """Raise RequestError when a reader that overlooks letter case would find a model in *body*, where we find none."""
    names = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if any(name.casefold() == "model" and name != "model" for name in names):
        raise RequestError("invalid_value", "'model' is to be spelt in lower case", param="model")


def _invalid_value(exc: msgspec.ValidationError, refused: Collection[str]) -> RequestError:
    """Return what a client is told of a member of the wrong type or out of range."""
    found = _WHERE.fullmatch(str(exc))
    if found is None:
        return RequestError("invalid_value", "the body must be a JSON object")
    problem, param = found.groups()
    if param in refused:
        return RequestError("unsupported_parameter", f"'{param}' is not for a request to say; remove it", param=param)
    if "matching regex" in problem:
        problem = "Expected a number"
    code = "invalid_json" if problem.endswith("out of range") else "invalid_value"
    return RequestError(code, f"'{param}': {problem[0].lower()}{problem[1:]}", param=param)


def _without(body: bytes, name: str, raw: bytes) -> bytes:
    """Return *body* with null for the member *name*, if it is easily found: valid JSON, with all its own members.

    Only what follows an unescaped name and a colon is replaced. That is a value, and whole, wherever it stands.
    """
    quoted = f'"{name}"'.encode()
    at = body.find(quoted)
    colon = _COLON.match(body, at + len(quoted)) if at >= 0 else None
    if colon is None or not body.startswith(raw, at := colon.end()):
        return body
    return b"%bnull%b" % (body[:at], body[at + len(raw) :])


_COLON: Final = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")


def _refuse_endless_numbers(rest: bytes) -> None:
    """Raise ValidationError when a number is infinite to some readers, too long for others, and just a number to more.

    The decoder does not look at the numbers that it skips, so those that look so are decoded.
    """
    if len(rest) > LARGE_BYTES:
        return
    if _EXPONENT.search(rest) or (len(rest) > MAX_DIGITS and _DIGITS.search(rest)):
        msgspec.json.decode(rest)


MAX_DIGITS: Final = 4300
_EXPONENT: Final = re.compile(rb"[eE]\+?[0-9]{3}")
_DIGITS: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % (MAX_DIGITS + 1))


def _check_sizes(fields: RoutedBody, shape: Shape[T]) -> None:
    for name in shape.lists:
        if _has_too_many_items(bytes(getattr(fields, name))):
            raise RequestError("invalid_value", f"'{name}' has more than {MAX_ITEMS} items", param=name)
    for name, limit in shape.max_bytes.items():
        if len(getattr(fields, name)) > limit:
            raise RequestError("invalid_value", f"'{name}' is longer than {limit} bytes", param=name)


_TOKEN_IDS: Final = re.compile(rb"\[[ \t\n\r]*+[0-9]")


def _has_too_many_items(raw: bytes) -> bool:
    # Nothing is decoded that is not sure to be a list, and could not be one of so many.
    return (
        len(raw) > 2 * MAX_ITEMS
        and raw.startswith(b"[")
        and _TOKEN_IDS.match(raw) is None
        and raw.count(b",") >= MAX_ITEMS
        and len(_ITEMS.decode(raw)) > MAX_ITEMS
    )


GUARDED: Final = ("model", "stream", "max_tokens")
"""Members that routing goes by. A backend may keep the first of two, or the last, or take ``MODEL`` for ``model`` as
Go's decoder does: then what was routed and checked is not what is run."""

MANY_BYTES: Final = 256 * 1024
MANY_COLONS: Final = 100_000

_ESCAPED_LETTER: Final = re.compile(rb"\\u(?:00[4-7]|017f|212a)")
_LETTERS_THAT_FOLD: Final = ("\u017f".encode(), "\u212a".encode())
"""The long s and the Kelvin sign: Go, for one, takes them for an s and a k."""


def is_plain(body: bytes) -> bool:
    """Whether the bytes alone prove that each guarded name stands there at most once, and ``model`` exactly once."""
    lower = body.lower()
    return (
        lower.count(b'"model"') == 1
        and lower.count(b'"stream"') <= 1
        and lower.count(b'"max_tokens"') <= 1
        and not (b"\\u" in lower and _ESCAPED_LETTER.search(lower))
        and (body.isascii() or not any(letter in body for letter in _LETTERS_THAT_FOLD))
        and not (len(body) > MANY_BYTES and body.count(b":") > MANY_COLONS)
    )


def _refuse_ambiguous(body: bytes) -> None:
    """Raise RequestError when *body*, valid JSON, gives a guarded member more than once, in whatever spelling."""
    found: set[str] = set()
    try:
        for member in members(body):
            name = member.name.casefold()
            if name in found:
                raise given_twice(name)
            if name in GUARDED:
                found.add(name)
    except CrowdedObjectError as exc:
        raise given_twice(exc.name) from None


def given_twice(name: str | None) -> RequestError:
    """Return what a client is told whose body gives the member *name* twice; None: it has too many members."""
    if name in GUARDED:
        return RequestError("invalid_value", f"'{name}' is given more than once", param=name)
    return RequestError("invalid_json", "the body has too many members, or one of them twice")


def answer_limit(*limits: float | str | None) -> int | None:
    """Return the longest answer that a request allows, by the highest of *limits*; None when it sets none."""
    highest = max([int(limit) for limit in limits if limit is not None], default=0)
    return min(highest, MAX_COUNTED_TOKENS) if highest > 0 else None
