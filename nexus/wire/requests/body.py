"""Decodes what routing reads from a JSON body, and refuses bodies that another parser could read differently."""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from nexus.errors import RequestError
from nexus.wire.characters import as_long_with_whole_characters, check_encoding
from nexus.wire.documents import read
from nexus.wire.json_members import CrowdedObjectError, members
from nexus.wire.message_text import FILE_BYTES, without_files
from nexus.wire.requests.limits import MAX_COUNTED_TOKENS, MAX_ITEMS, MAX_MODEL_CHARACTERS, RoutedBody
from nexus.wire.requests.prompt_blocks import FILE_PREFIX, Marking, file_hash

T = TypeVar("T", bound=RoutedBody)

LARGE_BYTES: Final = 64 * 1024
"""A shorter body cannot exceed a limit on sizes; a longer one is not searched for endless numbers."""

_WHERE: Final = re.compile(r"(.*) - at `\$\.?(.*)`")
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


class Shape(NamedTuple, Generic[T]):
    """The bodies of one protocol."""

    decoder: msgspec.json.Decoder[T]
    lists: tuple[str, ...]
    """Members with at most 100 000 items each."""
    max_bytes: Mapping[str, int]
    """The limits of members that engines compile, in time that grows faster than their length."""
    refused: Collection[str] = ()
    """Members that are not allowed in requests."""


def read_body(
    shape: Shape[T], body: bytes, bulk_names: Iterable[str], *, marking: Marking | None = None
) -> tuple[T, dict[str, bytes], bytes]:
    """Decode *body*; return its fields, the bytes of its members among *bulk_names*, and the text of the body.

    Long files are missing in the members, and may be in the text: an empty string is in their place. What is no whole
    character is replaced there: whether it is taken, the backend decides.

    :param marking: put the hashes of files there instead, if marks of this prompt are wanted.
    :raises RequestError: and nothing else, whatever the bytes are.
    """
    # Never `from exc`: errors of the decoder can contain the prompt. And all of it inside the `try`: what one decoder
    # accepts can be nested too deeply for the next one.
    try:
        decode = shape.decoder.decode
        fields, text, cut = (decode(body), body, body) if len(body) < FILE_BYTES else _cut(shape, body, marking)
        if not text.isascii():
            check_encoding(text)
        if fields.model:
            check_model(fields.model)
        else:
            _refuse_other_spellings(text)
        bulk: dict[str, bytes] = {}
        rest = text
        for name in bulk_names:
            if value := getattr(fields, name):
                raw = bytes(value)
                bulk[name] = raw if text is cut else without_files(raw)
                rest = _without(rest, name, raw)
        (_check_members_once if len(rest) <= MAX_REMEMBERED_BYTES else _check_members)(rest)
        if len(text) > LARGE_BYTES:
            _check_sizes(fields, shape)
    except msgspec.ValidationError as exc:
        raise _invalid_value(exc, shape.refused) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        body = _repaired(body, exc)
    else:
        return fields, bulk, text
    return read_body(shape, body, bulk_names, marking=marking)


def _repaired(body: bytes, exc: Exception) -> bytes:
    """Return *body* with whole characters. :raises RequestError: they are no reason why it was not read."""
    if isinstance(exc, RecursionError):
        raise RequestError("invalid_json", "the body is nested too deeply") from None
    repaired = as_long_with_whole_characters(body)
    if repaired == body:
        raise RequestError("invalid_json", "the body is not valid JSON in UTF-8") from None
    return repaired


def _cut(shape: Shape[T], body: bytes, marking: Marking | None) -> tuple[T, bytes, bytes]:
    """Return the fields of *body*, the text that they are in, and *body* without files, or with their hashes."""
    cut = without_files(body)
    if cut is body:
        return shape.decoder.decode(body), body, body
    fields, text = _decoded(shape, body, cut)
    if marking is not None and marking.is_wanted_for(fields.model or ""):
        # A second look for the files takes far less time than hashes that no stage would use.
        cut = without_files(body, file_hash)
        fields, text = _decoded(shape, body, cut)
    return fields, text, cut


def _decoded(shape: Shape[T], body: bytes, cut: bytes) -> tuple[T, bytes]:
    """Return the fields of *body*, and the text that they are in: *cut*, which lacks files, if that says the same."""
    fields = read(shape.decoder, cut)
    # A model's name as long as a file is refused.
    if fields is None or not fields.model or fields.model.startswith(_FILE):
        return shape.decoder.decode(body), body
    if any(getattr(fields, name) for name in shape.max_bytes):
        _check_lengths(shape.decoder.decode(body), shape)
    return fields, cut


_FILE: Final = FILE_PREFIX.decode()


def check_model(model: str) -> None:
    """Raise RequestError when the nonempty *model* is no valid name."""
    if len(model) > MAX_MODEL_CHARACTERS:
        raise RequestError("invalid_value", f"'model' is longer than {MAX_MODEL_CHARACTERS} characters", param="model")
    if not model.isprintable():
        raise RequestError("invalid_value", "'model' contains control characters", param="model")


def _refuse_other_spellings(body: bytes) -> None:
    """Raise RequestError when a parser that ignores letter case would find a model in *body*, which has none here."""
    names = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if any(name.casefold() == "model" and name != "model" for name in names):
        raise RequestError("invalid_value", "'model' must be in lower case", param="model")


def _invalid_value(exc: msgspec.ValidationError, refused: Collection[str]) -> RequestError:
    """Return the error for a member of the wrong type or out of range."""
    found = _WHERE.fullmatch(str(exc))
    if found is None:
        return RequestError("invalid_value", "the body must be a JSON object")
    problem, param = found.groups()
    if param in refused:
        return RequestError("unsupported_parameter", f"'{param}' is not allowed in a request; remove it", param=param)
    if "matching regex" in problem:
        problem = "Expected a number"
    code = "invalid_json" if problem.endswith("out of range") else "invalid_value"
    return RequestError(code, f"'{param}': {problem[0].lower()}{problem[1:]}", param=param)


def _without(body: bytes, name: str, raw: bytes) -> bytes:
    """Return *body* with null for the member *name*, if that is easily found.

    The result is valid JSON: what follows an unescaped name and a colon is a complete value, wherever it is.
    """
    quoted = f'"{name}"'.encode()
    at = body.find(quoted)
    colon = _COLON.match(body, at + len(quoted)) if at >= 0 else None
    if colon is None or not body.startswith(raw, at := colon.end()):
        return body
    return b"%bnull%b" % (body[:at], body[at + len(raw) :])


_COLON: Final = re.compile(rb"[ \t\n\r]*+:[ \t\n\r]*+")


def _check_members(rest: bytes) -> None:
    """Refuse *rest*, a body without its long members, if another parser could read it differently."""
    if not is_plain(rest):
        _refuse_ambiguous(rest)
    _refuse_endless_numbers(rest)


MAX_REMEMBERED_BYTES: Final = 512
_check_members_once: Final = lru_cache(maxsize=512)(_check_members)
"""Prompts differ, but an application sends the same few parameters with each. A refusal is not remembered."""


def _refuse_endless_numbers(rest: bytes) -> None:
    """Raise ValidationError for a number that some parsers read as infinite or refuse as too long.

    The decoder does not check numbers that it skips, so a body that may contain such a number is decoded whole.
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
        # Only a list that is long enough for so many items is looked at.
        if len(raw := getattr(fields, name)) > 2 * MAX_ITEMS and _has_too_many_items(bytes(raw)):
            raise RequestError("invalid_value", f"'{name}' has more than {MAX_ITEMS} items", param=name)
    _check_lengths(fields, shape)


def _check_lengths(fields: RoutedBody, shape: Shape[T]) -> None:
    for name, limit in shape.max_bytes.items():
        if len(getattr(fields, name)) > limit:
            raise RequestError("invalid_value", f"'{name}' is longer than {limit} bytes", param=name)


_TOKEN_IDS: Final = re.compile(rb"\[[ \t\n\r]*+[0-9]")


def _has_too_many_items(raw: bytes) -> bool:
    return (
        raw.startswith(b"[")
        and _TOKEN_IDS.match(raw) is None
        and raw.count(b",") >= MAX_ITEMS
        and len(_ITEMS.decode(raw)) > MAX_ITEMS
    )


GUARDED: Final = ("model", "stream", "max_tokens")
"""Members that routing depends on. Of duplicates, a backend may use the first or the last, or accept ``MODEL`` for
``model`` as Go's decoder does, and so run another request than the one that was checked."""

MANY_BYTES: Final = 256 * 1024
MANY_COLONS: Final = 100_000

_ESCAPED_LETTER: Final = re.compile(rb"\\u(?:00[4-7]|017f|212a)")
_LETTERS_THAT_FOLD: Final = ("\u017f".encode(), "\u212a".encode())
"""The long s and the Kelvin sign, which Go folds to s and k."""


def is_plain(body: bytes) -> bool:
    """Whether a search of the bytes proves that ``model`` occurs once and the other guarded names at most once."""
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
    """Raise RequestError when *body*, valid JSON, has a guarded member twice, in any spelling."""
    found: set[str] = set()
    try:
        for member in members(body):
            name = member.name.casefold()
            if name in found:
                raise duplicate_member(name)
            if name in GUARDED:
                found.add(name)
    except CrowdedObjectError as exc:
        raise duplicate_member(exc.name) from None


def duplicate_member(name: str | None) -> RequestError:
    """Return the error for the duplicate member *name*, or for too many members if it is None."""
    if name in GUARDED:
        return RequestError("invalid_value", f"'{name}' is given more than once", param=name)
    return RequestError("invalid_json", "the body has too many members, or a duplicate one")


def answer_limit(*limits: float | str | None) -> int | None:
    """Return the highest of *limits* of an answer; None when the request sets none."""
    highest = 0
    for limit in limits:
        if limit is not None:
            highest = max(highest, int(limit))
    return min(highest, MAX_COUNTED_TOKENS) if highest else None
