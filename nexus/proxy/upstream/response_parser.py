"""The head of a response from a backend."""

from typing import Final

from nexus.proxy.headers.to_client import refuse_bad_head
from nexus.wire.responses.nature import Label, label_of

HeaderList = list[tuple[bytes, bytes]]

NOT_MODIFIED: Final = 304
WITHOUT_BODY: Final = frozenset({204, NOT_MODIFIED})
"""Responses with these have no body, whatever their headers say (RFC 9112, 6.3)."""


class ResponseHead:
    """Status and headers as they arrived."""

    __slots__ = ("_label", "headers", "status")

    def __init__(self, status: int, headers: HeaderList) -> None:
        self.status = status
        self.headers = headers
        self._label: Label | None = None

    @property
    def label(self) -> Label:
        """What the headers declare of the body.

        :raises UpstreamError: PROTOCOL: the head may not be passed on, or the body cannot be understood.
        """
        if self._label is None:
            if self.status != NOT_MODIFIED:
                refuse_bad_head(self.status, self.headers)
            self._label = self._read_label()
        return self._label

    def has(self, name: bytes) -> bool:
        """Whether there is a header *name*, in lower case."""
        return any(own.lower() == name for own, _ in self.headers)

    def without(self, name: bytes) -> "ResponseHead":
        """Return a head that does not have the header *name*, in lower case."""
        return ResponseHead(self.status, [header for header in self.headers if header[0].lower() != name])

    def typed(self, content_type: bytes) -> "ResponseHead":
        """Return the same head with another content type."""
        others = [header for header in self.headers if header[0].lower() != b"content-type"]
        return ResponseHead(self.status, [*others, (b"Content-Type", content_type)])

    def _read_label(self) -> Label:
        content_type = b""
        for name, value in self.headers:
            lowered = name.lower()
            if lowered == b"content-type":
                content_type = value
            elif lowered == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                return Label.OPAQUE
        return label_of(content_type)
