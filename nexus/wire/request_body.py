"""Decodes what routing reads of a JSON body, and refuses what two readers could understand in two ways."""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from nexus.errors import RequestError
from nexus.wire.guarded_names import refuse_ambiguous
from nexus.wire.limits import LONGEST_MODEL, MOST_ITEMS, UNSUPPORTED, RoutedBody

T = TypeVar("T", bound=RoutedBody)

TOO_DEEP: Final = "the body is nested too deeply"
LARGE_BYTES: Final = 64 * 1024
"""A shorter body cannot break a limit on sizes."""

_WHERE: Final = re.compile(r"(.*) - at `\$\.?(.*)`")
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


def read_body(
    decoder: msgspec.json.Decoder[T], body: bytes, *, lists: tuple[str, ...], most_bytes: Mapping[str, int]
) -> T:
    """Decode *body*.

    :param lists: members of which each has at most 100 000 items.
    :param most_bytes: how long some members may be.
    :raises RequestError: whatever the bytes are, nothing else.
    """
    # Never `from exc`: what the decoder raises can hold the body, and with it the prompt. And all of it in here: what
    # one decoder follows can be too deep for another, with a few more frames on the stack.
    try:
        fields = decoder.decode(body)
        if not body.isascii():
            # The decoder does not look at the bytes of what it skips.
            body.decode()
        check_model(fields.model)
        refuse_ambiguous(body)
        if len(body) > LARGE_BYTES:
            _check_sizes(fields, lists, most_bytes)
    except msgspec.ValidationError as exc:
        raise invalid_value(exc) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestError("invalid_json", "the body is not valid JSON in UTF-8") from None
    except RecursionError:
        raise RequestError("invalid_json", TOO_DEEP) from None
    return fields


def invalid_value(exc: msgspec.ValidationError) -> RequestError:
    """Return what a client is told of a member of the wrong type or out of range."""
    found = _WHERE.fullmatch(str(exc))
    if found is None:
        return RequestError("invalid_value", "the body must be a JSON object")
    problem, param = found.groups()
    if param in UNSUPPORTED:
        return RequestError("unsupported_parameter", f"'{param}' is not for a request to say; remove it", param=param)
    return RequestError("invalid_value", f"'{param}': {problem[0].lower()}{problem[1:]}", param=param)


def check_model(model: str) -> None:
    """Raise RequestError when *model* cannot be the name of one."""
    if not model:
        raise RequestError("invalid_value", "'model' is missing or empty; name the model to ask", param="model")
    if len(model) > LONGEST_MODEL:
        raise RequestError("invalid_value", f"'model' is longer than {LONGEST_MODEL} characters", param="model")
    if not model.isprintable():
        raise RequestError("invalid_value", "'model' has control characters in it", param="model")


def _check_sizes(fields: RoutedBody, lists: tuple[str, ...], most_bytes: Mapping[str, int]) -> None:
    for name in lists:
        if has_too_many_items(bytes(getattr(fields, name))):
            raise RequestError("invalid_value", f"'{name}' has more than {MOST_ITEMS} items", param=name)
    for name, limit in most_bytes.items():
        if len(getattr(fields, name)) > limit:
            raise RequestError("invalid_value", f"'{name}' is longer than {limit} bytes", param=name)


def has_too_many_items(raw: bytes) -> bool:
    """Whether *raw* is a list with more than 100 000 items; nothing is decoded unless it could be one."""
    return (
        len(raw) > 2 * MOST_ITEMS
        and raw.startswith(b"[")
        and raw.count(b",") >= MOST_ITEMS
        and len(_ITEMS.decode(raw)) > MOST_ITEMS
    )
