"""Decodes compressed bodies of requests."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from nexus.errors import RequestError

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

MAX_PARTS: Final = 100
"""Compressed parts of one body, which may follow each other; clients send one."""
MAX_WINDOW_LOG: Final = 23
"""A window of 8 MiB, the largest that RFC 9659 lets HTTP use: its memory is taken before anything is decoded."""


class TooLargeError(Exception):
    """The decoded body would exceed its limit."""


class _Decompressor(Protocol):
    """What the decompressors of the standard library have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _zstd() -> _Decompressor:
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: MAX_WINDOW_LOG})


def _gzip() -> _Decompressor:
    return zlib.decompressobj(zlib.MAX_WBITS | 16)


_DECOMPRESSORS: Final[Mapping[bytes, Callable[[], _Decompressor]]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": zlib.decompressobj,
    b"zstd": _zstd,
}
"""By the value of ``Content-Encoding``, lower case."""


def check_coding(coding: bytes) -> None:
    """:raises RequestError: ``unsupported_content_encoding``: bodies with this ``Content-Encoding`` are not decoded."""
    if coding.lower() not in _DECOMPRESSORS:
        text = f"send the body without Content-Encoding, or with one of {', '.join(map(bytes.decode, _DECOMPRESSORS))}"
        raise RequestError("unsupported_content_encoding", text, close=True)


def decoded(coding: bytes, data: bytes, limit: int) -> bytes:
    """Return the decoded *data*, of a coding that :func:`check_coding` accepts. It may take long: call it in a thread.

    :raises TooLargeError: it has more than *limit* bytes.
    :raises RequestError: ``bad_request``: *data* is invalid or cut off.
    """
    make, parts, size = _DECOMPRESSORS[coding.lower()], list[bytes](), 0
    while data:
        decompressor = make()
        try:
            part = decompressor.decompress(data, limit - size + 1)
        except (zlib.error, ZstdError):
            raise _broken(coding) from None
        parts.append(part)
        size += len(part)
        if size > limit:
            raise TooLargeError
        if not decompressor.eof or len(parts) > MAX_PARTS:
            raise _broken(coding)
        data = decompressor.unused_data
    return b"".join(parts)


def _broken(coding: bytes) -> RequestError:
    return RequestError("bad_request", f"the body is no valid {coding.decode('ascii', 'replace')}")
