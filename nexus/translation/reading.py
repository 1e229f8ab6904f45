"""Decodes the body of a request into the types of a dialect."""

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeVar

import msgspec

from nexus.errors import RequestError
from nexus.wire.documents import is_given, read

T = TypeVar("T")

_WHERE: Final = re.compile(r"(.*) - at `\$\.?(.*)`")
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode *body*. :raises RequestError: it is no JSON, or a member has the wrong type, which the error names."""
    # Never `from exc`: errors of the decoder can contain the prompt.
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _invalid_value(str(exc)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RequestError("invalid_json", "the body is not valid JSON in UTF-8") from None
    except RecursionError:
        raise RequestError("invalid_json", "the body is nested too deeply") from None


def other_members(known: Collection[str], document: bytes) -> Iterator[str]:
    """Yield the names of the members of *document* that are not among *known*, without those that say nothing."""
    for name, raw in (read(_MEMBERS, document) or {}).items():
        if name not in known and is_given(raw):
            yield name


def stops_in(given: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the texts that stop an answer; an empty one does not, and some servers refuse it."""
    stops = (given,) if isinstance(given, str) else given or ()
    return tuple(filter(None, stops))


def _invalid_value(text: str) -> RequestError:
    found = _WHERE.fullmatch(text)
    if found is None:
        return RequestError("invalid_value", "the body must be a JSON object")
    problem, param = found.groups()
    # That null is allowed as well does not help to correct the value.
    problem = problem.replace(" | null`", "`")
    return RequestError("invalid_value", f"'{param}': {problem[0].lower()}{problem[1:]}", param=param)
