"""Replaces or inserts the model in a JSON body, and changes no other byte."""

import re
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.wire.json_members import CrowdedObjectError, members
from nexus.wire.requests.body import duplicate_member, is_plain

_MEMBER: Final = rb'"model"[ \t\n\r]*+:[ \t\n\r]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")'
_MODEL: Final = re.compile(_MEMBER, re.DOTALL)
_FIRST: Final = re.compile(rb"[ \t\n\r]*+\{[ \t\n\r]*+" + _MEMBER, re.DOTALL)


def replace_model(body: bytes, model: str) -> bytes:
    """Return *body* with *model* as the value of its top-level ``model``.

    :param body: one that ``understand`` has accepted, which may still have duplicates of other members.
    :raises RequestError: and nothing else, whatever the bytes are.
    """
    try:
        start, end = _model_span(body)
    except CrowdedObjectError as exc:
        raise duplicate_member(exc.name) from None
    except RecursionError:
        raise RequestError("invalid_json", "the body is nested too deeply") from None
    except (ValueError, LookupError):
        raise RequestError("invalid_json", "the body is not valid JSON in UTF-8") from None
    return b"".join((body[:start], msgspec.json.encode(model), body[end:]))


def insert_model(body: bytes, model: str) -> bytes:
    """Return *body*, whose ``model`` is missing, null or empty, with *model* as its ``model``.

    :param body: one that ``understand`` has accepted.
    """
    try:
        every = list(members(body))
    except RecursionError:
        raise RequestError("invalid_json", "the body is nested too deeply") from None
    name = msgspec.json.encode(model)
    for member in every:
        if member.name == "model":
            return b"".join((body[: member.start], name, body[member.end :]))
    at = body.index(b"{") + 1
    return b'%b"model":%b%b%b' % (body[:at], name, b"," if every else b"", body[at:])


def _model_span(body: bytes) -> tuple[int, int]:
    if found := _FIRST.match(body):
        return found.span(1)
    # The name occurs once in the whole body, and the top level has it.
    if is_plain(body) and (found := _MODEL.search(body)):
        return found.span(1)
    for member in members(body):
        if member.name == "model":
            return member.start, member.end
    raise LookupError("there is no model")
