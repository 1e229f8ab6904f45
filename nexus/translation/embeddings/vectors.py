"""Turns vectors from lists of numbers into 32-bit floats in base64, lowest byte first, and back."""

import binascii
import sys
from array import array
from base64 import b64decode, b64encode
from typing import Final

import msgspec

from nexus.wire.documents import read

_LIST: Final = msgspec.json.Decoder(list[float])
_TEXT: Final = msgspec.json.Decoder(str)


def as_list(vector: bytes) -> bytes:
    """Return *vector* as a list in JSON, byte for byte if it is one. :raises ValueError: it is no vector."""
    if vector.startswith(b"["):
        return vector
    text = read(_TEXT, vector)
    if text is None:
        raise ValueError("the backend's answer has a vector that is neither a list nor base64")
    try:
        floats = array("f", b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise ValueError("the backend's answer has a vector that is no base64 of 32-bit floats") from exc
    return msgspec.json.encode(_swapped(floats).tolist())


def as_base64(vector: bytes) -> bytes:
    """Return *vector* as base64 in a JSON string. :raises ValueError: it is no vector."""
    if vector.startswith(b'"'):
        return vector
    numbers = read(_LIST, vector)
    if numbers is None:
        raise ValueError("the backend's answer has a vector that is no list of numbers")
    return b'"%b"' % b64encode(_swapped(array("f", numbers)).tobytes())


def _swapped(floats: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        floats.byteswap()
    return floats
