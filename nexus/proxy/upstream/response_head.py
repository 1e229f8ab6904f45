"""The head of an answer, and what is made of it: once, where further answers of a connection have the same one."""

from enum import Enum, auto
from typing import Final

from nexus.proxy.content_length import around_length, head_of, is_plain, length_between
from nexus.proxy.headers.to_client import has_reworded, passed_lines, refuse_bad_head
from nexus.wire.responses.nature import Label, label_of

HeaderList = list[tuple[bytes, bytes]]

NOT_MODIFIED: Final = 304
WITHOUT_BODY: Final = frozenset({204, NOT_MODIFIED})
"""Answers with these have no body, whatever their headers say (RFC 9112, 6.3)."""

LONGEST_HEAD: Final = 4 * 1024
"""A longer one is parsed each time."""


class Mode(Enum):
    """How the answer's bytes are treated."""

    WAITING = auto()
    """Its head has not come."""
    WHOLE = auto()
    """Held back until it is complete, then sent in one piece."""
    EVENTS = auto()
    """Watched event by event; held back until the first that carries content."""
    OPAQUE = auto()
    """Passed on as it comes: binary, compressed, or longer than is held."""


class AnswerHead:
    """Status and headers as they came; nobody changes them."""

    __slots__ = ("_label", "_lines", "has_date", "headers", "status")

    def __init__(self, status: int, headers: HeaderList) -> None:
        self.status = status
        self.headers = headers
        self._label: Label | None = None
        self._lines: bytes | None = None
        self.has_date = self.has(b"date")

    @property
    def label(self) -> Label:
        """What it says of the bytes that follow.

        :raises UpstreamError: PROTOCOL: nothing that could be passed on.
        """
        if self._label is None:
            if self.status != NOT_MODIFIED:
                refuse_bad_head(self.status, self.headers)
            self._label = self._read_label()
        return self._label

    def passed_lines(self, request_id: bytes) -> bytes:
        """Return the header lines that go on to the client. See :func:`nexus.proxy.headers.to_client.passed_lines`."""
        if self._lines is not None:
            return self._lines
        lines = passed_lines(self.headers, request_id)
        if not has_reworded(self.headers):
            self._lines = lines
        return lines

    def has(self, name: bytes) -> bool:
        """Whether there is a header *name*, in lower case."""
        return any(own.lower() == name for own, _ in self.headers)

    def without(self, name: bytes) -> "AnswerHead":
        """Return a head that does not have the header *name*, in lower case."""
        return AnswerHead(self.status, [header for header in self.headers if header[0].lower() != name])

    def typed(self, content_type: bytes) -> "AnswerHead":
        """Return the same head with another content type."""
        others = [header for header in self.headers if header[0].lower() != b"content-type"]
        return AnswerHead(self.status, [*others, (b"Content-Type", content_type)])

    def _read_label(self) -> Label:
        content_type = b""
        for name, value in self.headers:
            lowered = name.lower()
            if lowered == b"content-type":
                content_type = value
            elif lowered == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                return Label.OPAQUE
        return label_of(content_type)


class KnownAnswer:
    """The head of an answer as its bytes: one that begins with the same, all but its length, needs no parser."""

    __slots__ = ("_after", "_before", "_head")

    def __init__(self) -> None:
        self._head: AnswerHead | None = None
        self._before = b""
        self._after = b""

    def whole(self, data: bytes) -> tuple[AnswerHead, bytes] | None:
        """Return the answer that *data* is, its head without the length; None when only the parser can tell."""
        head = self._head
        if head is None:
            return None
        found = length_between(data, self._before, self._after)
        if found is None or len(data) - found[1] != found[0]:
            return None
        return head, data[found[1] :]

    def learn(self, data: bytes, head: AnswerHead) -> None:
        """Remember that the parser has read all of *data* as one answer that begins with *head*."""
        if has_reworded(head.headers):
            # It names its request: the next one is another.
            return
        raw = head_of(data, LONGEST_HEAD)
        parts = around_length(raw, head.headers) if is_plain(raw, head.headers) else None
        # There are statuses whose answers say a length, and have no body all the same.
        if parts is not None and int(parts[1]) == len(data) - len(raw) > 0 and not head.has(b"transfer-encoding"):
            self._head, self._before, self._after = head.without(b"content-length"), parts[0], parts[2]
