"""Decodes what routing reads of a JSON body, and refuses what two readers could understand in two ways."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from nexus.errors import RequestError
from nexus.wire.requests.guarded_names import refuse_ambiguous
from nexus.wire.requests.limits import MAX_ITEMS, MAX_MODEL_CHARACTERS, RoutedBody

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
    most_bytes: Mapping[str, int]
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
        refuse_ambiguous(rest)
        if len(rest) <= LARGE_BYTES:
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
    if _EXPONENT.search(rest) or (len(rest) > MOST_DIGITS and _DIGITS.search(rest)):
        msgspec.json.decode(rest)


MOST_DIGITS: Final = 4300
_EXPONENT: Final = re.compile(rb"[eE]\+?[0-9]{3}")
_DIGITS: Final = re.compile(rb"(?<![0-9])[0-9]{%d}" % (MOST_DIGITS + 1))


def _check_sizes(fields: RoutedBody, shape: Shape[T]) -> None:
    for name in shape.lists:
        if _has_too_many_items(bytes(getattr(fields, name))):
            raise RequestError("invalid_value", f"'{name}' has more than {MAX_ITEMS} items", param=name)
    for name, limit in shape.most_bytes.items():
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
