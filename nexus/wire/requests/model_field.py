"""Replaces the model that a JSON body asks for, or inserts it, and changes no other byte of it."""

import re
from typing import Final

import msgspec

from nexus.errors import RequestError
from nexus.wire.json_members import CrowdedObjectError, members
from nexus.wire.requests.body import given_twice, is_plain

_MEMBER: Final = rb'"model"[ \t\n\r]*+:[ \t\n\r]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")'
_MODEL: Final = re.compile(_MEMBER, re.DOTALL)
_FIRST: Final = re.compile(rb"[ \t\n\r]*+\{[ \t\n\r]*+" + _MEMBER, re.DOTALL)


def replace_model(body: bytes, model: str) -> bytes:
    """Return *body* with *model* as the value of its top-level ``model``.

    :param body: one that ``understand`` has accepted, which does not mean that it can be changed: it may have a member
        twice that routing does not go by.
    :raises RequestError: whatever the bytes are, nothing else.
    """
    try:
        start, end = _model_span(body)
    except CrowdedObjectError as exc:
        raise given_twice(exc.name) from None
    except RecursionError:
        raise RequestError("invalid_json", "the body is nested too deeply") from None
    except (ValueError, LookupError):
        raise RequestError("invalid_json", "the body is not valid JSON in UTF-8") from None
    return b"".join((body[:start], msgspec.json.encode(model), body[end:]))


def insert_model(body: bytes, model: str) -> bytes:
    """Return *body*, whose ``model`` is missing, null or empty, with *model* there, and no other byte changed.

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
    # One spelling in the whole body, and the top level has one: this is it.
    if is_plain(body) and (found := _MODEL.search(body)):
        return found.span(1)
    for member in members(body):
        if member.name == "model":
            return member.start, member.end
    raise LookupError("there is no model")
