"""Reads what routing needs from a multipart form, and replaces or inserts its model."""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from nexus.domain.request import Endpoint, Requirements
from nexus.errors import RequestError
from nexus.wire.requests.body import check_model
from nexus.wire.requests.limits import MAX_CHOICES

MAX_PARTS: Final = 1000
MAX_HEADER_BYTES: Final = 8 * 1024

_BOUNDARY: Final = re.compile(rb';[ \t]*boundary=(?:"([^"\\]{1,200})"|([^\s;,"]{1,200}))[ \t]*(?=;|\Z)', re.IGNORECASE)
_PARAMETER: Final = rb';[ \t]*([a-z]+\*?)=("(?:[^"\\]|\\.)*+"|[^\s;"]*+)[ \t]*'
_DISPOSITION: Final = re.compile(rb"content-disposition:[ \t]*form-data[ \t]*((?:%b)*)" % _PARAMETER, re.IGNORECASE)
_PARAMETERS: Final = re.compile(_PARAMETER, re.IGNORECASE)
_AFTER_DELIMITER: Final = re.compile(rb"[ \t]*+\r\n")
_CODED: Final = re.compile(rb"^content-transfer-encoding:[ \t]*(?!7bit|8bit|binary)", re.IGNORECASE | re.MULTILINE)
_PLAIN_NUMBER: Final = re.compile(rb"[0-9]{1,5}")
_ODD_LINE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)|\n[ \t]")
"""A line that ends in a lone CR or LF, or continues on the next line, which parsers read differently."""
_ALLOWED_PARAMETERS: Final = frozenset({b"name", b"filename", b"filename*"})


class Field(NamedTuple):
    """A form field that is no file, and the position of its value."""

    name: bytes
    start: int
    end: int


def understand(endpoint: Endpoint, body: bytes, content_type: bytes) -> Requirements:
    """Read what routing needs from a form.

    :raises RequestError: ``invalid_value``, with its ``param`` if a field is at fault.
    """
    fields = list(_fields(body, boundary_of(content_type)))
    model = _text_of(body, _single(fields, b"model"))
    if model:
        check_model(model)
    return Requirements(
        model=model,
        is_stream=_text_of(body, _single(fields, b"stream")).lower() in ("true", "1"),
        needs_embeddings=endpoint.capability == "embeddings",
        answers=_number_of_answers(body, _single(fields, b"n")) if endpoint.capability == "images" else 1,
    )


def prompt_start(body: bytes, content_type: bytes, max_characters: int) -> str:
    """Return at most *max_characters* characters of the field ``prompt``; empty when there is none.

    :param body: one that :func:`understand` has accepted.
    """
    field = next((f for f in _fields(body, boundary_of(content_type)) if f.name == b"prompt"), None)
    if field is None:
        return ""
    # A character has at most four bytes; one that is cut off is dropped.
    return body[field.start : min(field.end, field.start + 4 * max_characters)].decode(errors="ignore")[:max_characters]


def replace_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """Return *body* with *model* as the value of its field ``model``.

    :param body: one that :func:`understand` has accepted.
    """
    field = find_model(body, boundary_of(content_type))
    if field is None:
        raise RequestError("invalid_value", "the form has no field 'model'", param="model")
    return b"".join((body[: field.start], model.encode(), body[field.end :]))


def insert_model(body: bytes, content_type: bytes, model: str) -> bytes:
    """Return *body*, which names no model, with *model* as its field ``model``.

    :param body: one that :func:`understand` has accepted.
    """
    boundary = boundary_of(content_type)
    if find_model(body, boundary) is not None:
        return replace_model(body, content_type, model)
    field = b'Content-Disposition: form-data; name="model"'
    return b"--%b\r\n%b\r\n\r\n%b\r\n%b" % (boundary, field, model.encode(), body)


def find_model(body: bytes, boundary: bytes) -> Field | None:
    """Return the field ``model`` of the form, None if it has none.

    :raises RequestError: the field is given twice, or *body* is no form.
    """
    return _single(_fields(body, boundary), b"model")


def boundary_of(content_type: bytes) -> bytes:
    """Return the boundary in *content_type*.

    :raises RequestError: there is none, or more than one.
    """
    found = _BOUNDARY.findall(content_type)
    if len(found) != 1:
        raise RequestError("invalid_value", "the content type must name one boundary")
    quoted, bare = found[0]
    return bytes(quoted or bare)


def _single(fields: Iterable[Field], name: bytes) -> Field | None:
    found = [field for field in fields if field.name == name]
    if len(found) > 1:
        # A backend may use the other one, and so run another request than the one that was routed.
        shown = name.decode()
        raise RequestError("invalid_value", f"'{shown}' is given more than once", param=shown)
    return found[0] if found else None


def _fields(body: bytes, boundary: bytes) -> Iterator[Field]:
    """Yield the fields of a form, in order; of files, only the headers are read."""
    delimiter = b"\r\n--" + boundary
    if not body.startswith(delimiter[2:]):
        raise _malformed()
    at = len(delimiter) - 2
    for _ in range(MAX_PARTS):
        if body.startswith(b"--", at):
            return
        opened = _AFTER_DELIMITER.match(body, at)
        # In a part without headers, the empty line that ends them comes first.
        first = opened.end() if opened else 0
        headers_end = body.find(b"\r\n\r\n", first - 2, first + MAX_HEADER_BYTES) if opened else -1
        end = body.find(delimiter, headers_end + 2) if headers_end >= 0 else -1
        start = headers_end + len(b"\r\n\r\n")
        if end < start or delimiter in body[first:headers_end]:
            raise _malformed()
        if name := _field_name(body[first:headers_end]):
            yield Field(name, start, end)
        at = end + len(delimiter)
    raise RequestError("invalid_value", f"the form has more than {MAX_PARTS} parts")


def _field_name(headers: bytes) -> bytes:
    """Return the name in the headers of a part, empty if the part is a file.

    :raises RequestError: parsers could read different names.
    """
    lines = [line for line in headers.split(b"\r\n") if line.lower().startswith(b"content-disposition")]
    disposition = _DISPOSITION.fullmatch(lines[0]) if len(lines) == 1 else None
    if disposition is None or _ODD_LINE.search(headers) or _CODED.search(headers):
        raise _malformed()
    given: list[tuple[bytes, bytes]] = _PARAMETERS.findall(disposition[1])
    values = {key.lower(): value.removeprefix(b'"').removesuffix(b'"') for key, value in given}
    name = values.get(b"name", b"")
    if len(values) < len(given) or not values.keys() <= _ALLOWED_PARAMETERS or b"\\" in name:
        raise _malformed()
    if len(values) > 1 and name in (b"model", b"stream"):
        raise RequestError("invalid_value", "the model must be a field, not a file", param="model")
    return b"" if len(values) > 1 else name


def _text_of(body: bytes, field: Field | None) -> str:
    if field is None:
        return ""
    try:
        return body[field.start : field.end].decode()
    except UnicodeDecodeError:
        name = field.name.decode()
        raise RequestError("invalid_value", f"'{name}' is not valid UTF-8", param=name) from None


def _number_of_answers(body: bytes, field: Field | None) -> int:
    # An empty value counts as absent.
    text = body[field.start : field.end] if field is not None else b""
    if not text:
        return 1
    # Some backends read '+8', ' 8 ' and '1_0' as numbers too, so these are refused rather than miscounted.
    number = int(text) if _PLAIN_NUMBER.fullmatch(text) else MAX_CHOICES + 1
    if number > MAX_CHOICES:
        raise RequestError("invalid_value", f"'n' must be a whole number from 0 to {MAX_CHOICES}", param="n")
    return max(number, 1)


def _malformed() -> RequestError:
    return RequestError("invalid_value", "the body is not a valid multipart form")
